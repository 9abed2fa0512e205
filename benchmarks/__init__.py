"""What the rooms promise, measured."""
