"""`data:`, a file for each of its keys: where rows come from, what may be wrong with them, how they are split."""
