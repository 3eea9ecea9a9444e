"""Backbones, their stages, their weights, and what of them is trainable."""

PRETRAINED = "pretrained"
"""What `--weights` takes for the published weights of a backbone."""

EDGES8 = "edges8"
"""The hand-made backbone that needs no download."""

NANO = "nano"
"""The small pretrained backbone that comes with the package."""

NO_WEIGHTS = "none"
"""What `--weights` takes for random weights."""
