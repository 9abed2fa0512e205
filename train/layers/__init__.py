"""Layers whose gradient is written out: attention by row, LoRA, fused cross-entropy."""
