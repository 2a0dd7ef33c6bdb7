"""`python -m foundry.cli`: the same as the `foundry` script, for a checkout that is not installed."""

from foundry.cli import main

if __name__ == "__main__":
    main()
