"""Curves drawn in text."""

from transferkit.cli.curve import draw_curve


def test_draw_curve__puts_points_and_the_mark_in_place():
    lines = draw_curve([1e-4, 1e-3, 1e-2, 1e-1], [3.0, 2.0, 1.0, 2.0], mark=1e-3).splitlines()

    assert lines[0].startswith("    3.00 │•")
    assert lines[11].startswith("    1.00 │")
    assert lines[11].index("•") == 10 + 42
    assert all(line[10 + 21] in "┊•" for line in lines[:12])
    assert lines[13].split() == ["1e-04", "1e-01"]
