"""What `tunegate init` reads off rows and a base, and the YAML that it writes."""
