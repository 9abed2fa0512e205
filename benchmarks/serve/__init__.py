"""The serving room's promises, measured."""
