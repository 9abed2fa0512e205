"""Rows checked, measured, split and described."""
