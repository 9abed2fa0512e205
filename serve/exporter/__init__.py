"""What whoever holds an environment says of it to Prometheus."""
