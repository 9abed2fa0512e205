"""Which models are trained and served, and how well as `tunegate init` proposes, measured."""
