"""What a line of a gate file may ask."""
