"""Layers whose gradient is written out: attention by row or packed, LoRA, fused cross-entropy; what is compiled."""
