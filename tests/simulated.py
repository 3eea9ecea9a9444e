"""Simulated classifiers, whose probabilities are known to be right."""

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities (N, C)."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def direction(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return what no temperature changes: the direction of each row's logits, (N, C)."""
    logits = np.log(probabilities.astype(np.float64))
    logits -= logits.mean(axis=1, keepdims=True)
    return logits / np.linalg.norm(logits, axis=1, keepdims=True)


def simulate(
    count: int, seed: int, classes: int = 5
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return labels (N,) that follow their logits (N, C), and the logits."""
    random = np.random.default_rng(seed)
    logits = 3 * random.standard_normal((count, classes))
    return (softmax(logits).cumsum(axis=1) < random.random((count, 1))).sum(axis=1), logits
