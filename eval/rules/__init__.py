"""Evidence and rules in, results out; pure but for `gather`."""
