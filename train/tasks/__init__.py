"""One file a task: how a row becomes labels, and its Trainer."""
