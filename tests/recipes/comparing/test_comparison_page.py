"""The page of a comparison: made-up rows, malicious names, a real browser."""

from dataclasses import replace
from pathlib import Path

import pytest

from transferkit.intervals import Estimate
from transferkit.options.compare import Candidate
from transferkit.recipes.comparing.comparison_page import write_comparison_page
from transferkit.recipes.comparing.rows import Comparison, ComparisonRow, CurvePoint

SCRIPT = "<script>alert(1)</script>"


def row(strategy: str, accuracy: float | None, behind: float | None = None) -> ComparisonRow:
    known = accuracy is not None
    trained = strategy in ("partial", "full")
    points = [CurvePoint(i + 1, 10.0 * (i + 1), 0.5 + i / 20) for i in range(6)]
    return ComparisonRow(
        candidate=Candidate(strategy, SCRIPT, "pretrained"),
        by_seed=(accuracy,) if known else (),
        accuracy=Estimate(accuracy, accuracy - 0.03, accuracy + 0.03) if known else None,
        difference=None if behind is None else Estimate(-behind, -behind - 0.02, 0.02 - behind),
        seconds=75.0 if known else None,
        spent=75.0,
        trainable_parameters=11_182_668 if known else None,
        total_parameters=11_182_668 if known else None,
        size=44_700_000 if known else None,
        note="" if known else f"seed 0 failed: {SCRIPT}",
        failed=not known,
        epochs=6 if trained else 0,
        so_far=None if known else 0.4,
        curve=tuple(points) if trained else (CurvePoint(0, 9.0, accuracy or 0.4),),
    )


def comparison(folder: Path) -> Comparison:
    rows = (row("full", 0.93), row("svm", 0.92, 0.01), row("knn", 0.8, 0.13), row("partial", None))
    return Comparison(folder, rows, "Take svm.", (1272, 324), 0.1, (), f"resume with: {SCRIPT}")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_comparison_page(comparison(folder), SCRIPT, seeds=3)
    return folder / "compare.html"


def test_page__escapes_names(page):
    html = page.read_text("utf-8")

    assert SCRIPT not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5


def test_page__has_the_figures_of_the_table(page):
    html = " ".join(page.read_text("utf-8").split())

    assert "Take svm." in html
    assert "0.930" in html
    assert "(0.900 to 0.960)" in html
    assert "(-0.030 to +0.010)</span> =" in html
    assert "0.400 so far" in html
    assert "1272" in html.replace(",", "")
    assert html.count("<figure>") == 2


def test_page__without_a_finished_candidate_draws_no_intervals(tmp_path):
    unfinished = replace(comparison(tmp_path), rows=(row("svm", None),), advice="No advice.")
    write_comparison_page(unfinished, "data", seeds=1)

    assert "did not finish" in (tmp_path / "compare.html").read_text("utf-8")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page__opens_in_a_browser(page, browser, width, scheme):
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    messages, requested = [], []
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on("request", lambda request: requested.append(request.url))
    tab.goto(page.as_uri())

    assert messages == []
    assert [url for url in requested if not url.startswith("data:")] == [page.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()
