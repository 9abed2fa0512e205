"""`train:`, a file for each of its sections; and the values that stand where a run gives none."""
