"""The gateway as a file: the tables of `foundry.toml` that are no settings, read, checked and made from elsewhere.

What it does not know: databases, how a configuration is applied (`control_api/declared`), the settings groups.
"""
