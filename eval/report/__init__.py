"""One verdict in five forms."""
