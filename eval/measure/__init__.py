"""A release asked through vLLM, once, and kept."""
