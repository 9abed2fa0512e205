"""Layers whose gradient is written out: attention by row, LoRA, RMSNorm, fused cross-entropy."""
