"""The race: LLaMA-Factory's and axolotl's own commands beside ours, each in an environment of its own."""
