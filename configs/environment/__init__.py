"""What an environment's YAML may say, a file a key; the pin."""
