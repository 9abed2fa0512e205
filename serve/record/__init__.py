"""What is so in one environment, folded from its record; who may change it."""
