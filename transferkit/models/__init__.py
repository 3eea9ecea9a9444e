"""Backbones, their stages, their weights, and what of them is trainable."""

PRETRAINED = "pretrained"
"""What `--weights` takes for the published weights of a backbone."""

NO_WEIGHTS = "none"
"""What `--weights` takes for random weights."""
