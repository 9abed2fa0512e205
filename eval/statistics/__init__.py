"""Intervals, p, power: what a figure or a difference shows."""
