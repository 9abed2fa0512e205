"""Every call of git; history; a branch that is followed."""
