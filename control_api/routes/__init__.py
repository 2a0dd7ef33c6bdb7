"""Routes: public model names and their targets."""
