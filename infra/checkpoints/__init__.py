"""Checkpoints outside of the machine: what is whole there, and how it gets there beside the training."""
