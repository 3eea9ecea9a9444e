"""How the learning rates move: every group by the same factor, so their ratios stay."""

import math

WARMUP_FRACTION = 0.1
"""Share of the steps in which the rates rise; field practice is 5 to 10 %."""


def warmup_cosine(step: int, total: int) -> float:
    """The factor on every learning rate at a step: a linear rise, then half a cosine to 0.

    Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, without restarts.

    Args:
        step: 0 <= step < total.
        total: All steps of the run.

    Returns:
        In (0, 1].

    >>> [round(warmup_cosine(step, 10), 3) for step in (0, 1, 5, 9)]
    [1.0, 0.97, 0.413, 0.03]
    """
    warmup = int(WARMUP_FRACTION * total)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
