"""Base weights, a task's head, the adapter, the dtype."""
