"""The evaluation room's promises, measured."""
