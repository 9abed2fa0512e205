"""Room `eval`: a release in, a verdict out."""
