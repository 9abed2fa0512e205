"""What green must show before any traffic."""
