"""Backbones, their stages, their weights, and what of them is trainable."""
