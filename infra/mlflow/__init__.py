"""Tracking and registry, MLflow's only user."""
