"""What a sweep knows, draws and reports."""
