"""Options of all of it."""
