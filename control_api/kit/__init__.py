"""What every noun stands on: database sessions, pagination, problem rendering, change signals. Knows no noun."""
