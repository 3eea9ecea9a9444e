"""Backbones, their stages and weights, and which of their parameters are trained."""

PRETRAINED = "pretrained"
"""Value of `--weights` for the published weights of a backbone."""

EDGES8 = "edges8"
"""Name of the backbone whose weights are computed by formula; it needs no download."""

NO_WEIGHTS = "none"
"""Value of `--weights` for random weights."""

LOCAL_PREFIX, HUB_PREFIX = "local-dir:", "hf-hub:"
"""Prefixes of networks in a folder of this machine and on the hub."""
