"""Kubernetes: its API, what we apply there, and what of it is ours."""
