"""Room `serve`: a verdict and a release in, live traffic out."""
