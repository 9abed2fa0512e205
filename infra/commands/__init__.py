"""Options of `releases`, `sync`, `keys`, `gitlab`, `repro`, `trace`."""
