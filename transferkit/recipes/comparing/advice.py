"""The sentence that a comparison ends with, chosen by rules from its figures."""

from collections.abc import Sequence

from transferkit.intervals import Estimate
from transferkit.recipes.comparing.rows import ComparisonRow

_HARDLY_LONGER = 1.25
"""Up to this ratio, two times count as equal; times of short runs vary as much."""


def advise(rows: Sequence[ComparisonRow], baseline: float) -> str:
    """Return one sentence that says which candidate to take, and why.

    - If no candidate finished, it says so.
    - If the best is not better than the most frequent class, it says to take none.
    - If the best can be told apart from all others, it says by how much it is better than the next
      one, and at what cost.
    - Among those that cannot be told apart from the best, it names the fastest, or the best itself
      if that takes hardly longer.

    Args:
        rows: The best first, see `comparison_rows`.
        baseline: Accuracy of always predicting the most frequent class.
    """
    ranked = [row for row in rows if row.accuracy is not None]
    if not ranked:
        return "No advice: no candidate finished."
    best, unfinished = ranked[0], len(rows) - len(ranked)
    rest = f" ({unfinished} of {len(rows)} did not finish)" if unfinished else ""
    assert best.accuracy is not None
    if best.accuracy.low <= baseline:
        return (
            f"Take none of them yet: {best.candidate.name}, the best, cannot be told apart from "
            f"always predicting the most frequent class ({baseline:.3f}); check the labels, add "
            f"images, or train for more --epochs{rest}."
        )
    if len(ranked) == 1:
        return f"Take {best.candidate.name}: {_why_alone(unfinished)}."
    equals = [row for row in ranked if row.equals_best]
    if len(equals) == 1:
        return f"Take {best.candidate.name}: {_better_by(best, ranked[1])}{rest}."
    return f"Take {_among_equals(best, equals)}{rest}."


def _why_alone(unfinished: int) -> str:
    if not unfinished:
        return "there was nothing to compare it with"
    return f"only it finished, and {'the others' if unfinished > 1 else 'the other'} may be better"


def _among_equals(best: ComparisonRow, equals: Sequence[ComparisonRow]) -> str:
    """Return which of the candidates that cannot be told apart from the best to take, and why."""
    fastest, slowest = min(equals, key=_seconds), max(equals, key=_seconds)
    if _seconds(best) > _HARDLY_LONGER * _seconds(fastest):
        return (
            f"{fastest.candidate.name}: the best, {best.candidate.name}, is not better beyond "
            f"chance ({_difference(fastest)}), and takes {_times(best, fastest)} as long"
        )
    if _seconds(slowest) <= _HARDLY_LONGER * _seconds(best):
        return (
            f"{best.candidate.name}: it is the best, and those that cannot be told apart from it "
            "take about as long"
        )
    return (
        f"{best.candidate.name}: it is the best, and {slowest.candidate.name}, which cannot be "
        f"told apart from it, takes {_times(slowest, best)} as long"
    )


def _better_by(best: ComparisonRow, next_one: ComparisonRow) -> str:
    gain = f"it is better than the next, {next_one.candidate.name} ({_difference(next_one)})"
    if _seconds(best) <= _seconds(next_one):
        return f"{gain}, and not slower"
    return f"{gain}, and takes {_times(best, next_one)} as long"


def _seconds(row: ComparisonRow) -> float:
    return row.seconds or 0.0


def _difference(row: ComparisonRow) -> str:
    """Return by how much the best is better than a candidate, with its interval."""
    assert row.difference is not None
    gain = Estimate(-row.difference.value, -row.difference.high, -row.difference.low)
    return f"{gain.value:+z.3f}, {gain.low:+z.3f} to {gain.high:+z.3f}"


def _times(slow: ComparisonRow, fast: ComparisonRow) -> str:
    ratio = _seconds(slow) / max(_seconds(fast), 1e-9)
    return f"{ratio:.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"
