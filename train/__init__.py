"""Room `train`: raw rows in, a release out."""
