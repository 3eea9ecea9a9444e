"""Made-up features for classifiers."""

import numpy as np


def clouds(count: int = 40, classes: int = 3, width: int = 6, seed: int = 0, spread: float = 1.6):
    """Return overlapping clouds of points, `count` per class, and their labels."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, width))
    labels = np.repeat(np.arange(classes), count)
    return centres[labels] + spread * random.normal(size=(len(labels), width)), labels
