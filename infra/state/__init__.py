"""Where an environment's state and the local stores lie, how they come there from where an earlier tunegate kept them,
and how long servers took to start here."""
