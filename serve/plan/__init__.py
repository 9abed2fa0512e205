"""What to do next, and whether the memory suffices; pure but for `observe` and `measure`."""
