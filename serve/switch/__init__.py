"""The effects of the plan, and the loop that does them."""
