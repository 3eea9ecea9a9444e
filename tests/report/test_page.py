"""Pages: every value is required, and text is written as UTF-8."""

import pytest

from transferkit.report.page import render, seconds, write_page


def test_write_page__takes_names_that_are_not_utf8(tmp_path):
    write_page(tmp_path / "p.html", "a\udcffb")

    assert (tmp_path / "p.html").read_text() == "a\\udcffb"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.42, "0.4 s"), (59.97, "1 min 0 s"), (75, "1 min 15 s"), (5400, "1 h 30 min")],
)
def test_seconds__are_readable(value, shown):
    assert seconds(value) == shown


def test_render__requires_every_value():
    with pytest.raises(Exception, match="'report' is undefined"):
        render("run.html")
