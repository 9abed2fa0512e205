"""Training and sweeps on engines of others, measured."""
