"""Room `infra`: one thin seam per outside system."""
