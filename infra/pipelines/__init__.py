"""The stages of dvc.yaml as pipelines of other engines: rendered for them, depending on none."""
