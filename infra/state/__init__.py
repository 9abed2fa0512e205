"""Where an environment's state and the local stores lie, and how they come there from where an earlier tunegate kept
them."""
