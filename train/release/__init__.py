"""From trained weights to a release: merge, prune, quantize, golden prompts, model card."""
