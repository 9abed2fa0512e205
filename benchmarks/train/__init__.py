"""The training room's promises, measured."""
