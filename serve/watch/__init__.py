"""Is what got traffic worse than what served?"""
