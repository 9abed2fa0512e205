"""Behaviour tests: their questions, and what came of them."""
