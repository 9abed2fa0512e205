"""Releases beyond this machine, by digest: put into a registry, S3 or a folder, and fetched into a node's cache."""
