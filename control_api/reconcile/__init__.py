"""The reconciler: makes Ray Serve run what the database wants, and writes down what it sees."""
