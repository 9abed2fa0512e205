"""Which rows make which step, and how a micro-batch is laid out."""
