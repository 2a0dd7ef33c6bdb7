"""Ray Serve applications, thin: each builds an app out of `foundry` and hands it to Serve."""
