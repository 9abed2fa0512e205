"""What needs a GPU, ready for the day one is lent: `make prove-gpu`, docs/gpu.md."""
