"""Rows to token ids and loss masks, once, in as many processes as there are cores."""
