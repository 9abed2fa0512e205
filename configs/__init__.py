"""Room `configs`: the nouns all rooms share, and the YAML that people edit. Imports nothing of ours."""
