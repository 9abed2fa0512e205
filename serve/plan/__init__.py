"""What to do next, and whether there is room; pure but for `observe` and `measure`."""
