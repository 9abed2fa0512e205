"""Scores of one answer, figures of many."""
