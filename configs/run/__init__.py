"""What a fine-tune's YAML may say, a file a key."""
