"""The sentence a comparison ends with, from its figures by rules."""

from collections.abc import Sequence

from transferkit.intervals import Estimate
from transferkit.recipes.comparing.rows import ComparisonRow

_HARDLY_LONGER = 1.25
"""So many times as long is no reason to take another; times of short runs vary as much."""


def advise(rows: Sequence[ComparisonRow], baseline: float) -> str:
    """What to take, and why, in one sentence.

    - Where none came to its end: that.
    - Where the best is not better than the most frequent class: that nothing was learnt.
    - Where the best can be told apart from all others: by how much it is better than the next, and
      at what cost.
    - Of those that cannot be told apart from the best the quickest is to be taken, unless the best
      takes hardly longer.

    Args:
        rows: The best first, see `comparison_rows`.
        baseline: The accuracy of always answering the most frequent class.
    """
    ranked = [row for row in rows if row.accuracy is not None]
    unranked = len(rows) - len(ranked)
    others = "the others" if unranked > 1 else "the other"
    rest = f" ({unranked} of {len(rows)} did not come to their end)" if unranked else ""
    if not ranked:
        return "No advice: no candidate came to its end."
    best = ranked[0]
    assert best.accuracy is not None
    if best.accuracy.low <= baseline:
        return (
            f"Take none of them yet: {best.candidate.name}, the best, cannot be told from always "
            f"answering the most frequent class ({baseline:.3f}); look at the labels, add images, "
            f"or train for more --epochs{rest}."
        )
    if len(ranked) == 1:
        why = f"it alone came to its end, and {others} may be better" if unranked else (
            "there was nothing to compare it with")  # fmt: skip
        return f"Take {best.candidate.name}: {why}."
    equals = [row for row in ranked if row.equals_best]
    quickest = min(equals, key=lambda row: row.seconds or 0.0)
    if len(equals) == 1:
        return f"Take {best.candidate.name}: {_better_by(best, ranked[1])}{rest}."
    if (best.seconds or 0.0) <= _HARDLY_LONGER * (quickest.seconds or 0.0):
        slowest = max(equals, key=lambda row: row.seconds or 0.0)
        if (slowest.seconds or 0.0) <= _HARDLY_LONGER * (best.seconds or 0.0):
            return (
                f"Take {best.candidate.name}: it is the best, and what cannot be told apart from "
                f"it takes about as long{rest}."
            )
        return (
            f"Take {best.candidate.name}: it is the best, and {slowest.candidate.name}, which "
            f"cannot be told apart from it, takes {_times(slowest, best)} as long{rest}."
        )
    return (
        f"Take {quickest.candidate.name}: the best, {best.candidate.name}, is not better beyond "
        f"chance ({_by(_turned(quickest.difference))}), and takes "
        f"{_times(best, quickest)} as long{rest}."
    )


def _better_by(best: ComparisonRow, next_one: ComparisonRow) -> str:
    # It may be quicker than the next too, and then costs nothing.
    gain = _by(_turned(next_one.difference))
    if (best.seconds or 0.0) <= (next_one.seconds or 0.0):
        return f"it is better than the next, {next_one.candidate.name} ({gain}), and not slower"
    return (
        f"it is better than the next, {next_one.candidate.name} ({gain}), and takes "
        f"{_times(best, next_one)} as long"
    )


def _turned(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _by(estimate: Estimate) -> str:
    return f"{estimate.value:+z.3f}, {estimate.low:+z.3f} to {estimate.high:+z.3f}"


def _times(slow: ComparisonRow, quick: ComparisonRow) -> str:
    ratio = (slow.seconds or 0.0) / max(quick.seconds or 0.0, 1e-9)
    return f"{ratio:.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"
