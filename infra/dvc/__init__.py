"""The artifact store, DVC's only user."""
