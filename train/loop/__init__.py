"""One training: arguments, checkpoints, callback, processes, when it stops."""
