"""Durations in words."""


def describe_seconds(seconds: float) -> str:
    """Describe a duration in one rounded unit.

    >>> [describe_seconds(s) for s in (0.2, 42, 130, 9000)]
    ['1 s', '42 s', '2 min', '2.5 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
