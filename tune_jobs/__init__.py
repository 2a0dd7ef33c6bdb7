"""Ray Job and Ray Tune entrypoints, one verb a file; each opens with the exact command that runs it."""
