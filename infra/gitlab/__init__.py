"""GitLab's API, child pipelines, the pin of a merge request; and the pipeline's YAML."""
