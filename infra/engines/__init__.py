"""Who starts a training's processes beyond this machine: a file each, with the same five functions."""
