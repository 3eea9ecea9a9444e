"""Pages inside notebooks: how a result shows itself there."""

from collections.abc import Mapping
from html import escape
from typing import Any

from transferkit.places import Place
from transferkit.report.page import render
from transferkit.reporter import Plan

_HEAD, _BASE = "<head>\n", '<base href="about:srcdoc">\n'
"""Links within a page would otherwise lead to the notebook's own address."""


def embedded_page(path: Place, *, runs_script: bool = False) -> str:
    """Return a page as a frame for a notebook; it loads nothing, as everywhere.

    Args:
        path: The page, one of this package.
        runs_script: Whether the page's own script may run, and save files.
    """
    page = path.read_bytes().decode("utf-8").replace(_HEAD, f"{_HEAD}{_BASE}", 1)
    allowed = "allow-scripts allow-downloads" if runs_script else ""
    return (
        f'<iframe sandbox="{allowed}" srcdoc="{escape(page)}" title="{escape(path.name)}" '
        'style="width:100%;height:42rem;border:1px solid #8886;border-radius:4px"></iframe>'
    )


def summary(plan: Plan, metrics: Mapping[str, Any], *, is_folded: bool) -> str:
    """Return what is known of a run without a page, as a piece of HTML.

    Args:
        plan: The plan of the run.
        metrics: The content of metrics.json; empty if nothing was trained.
        is_folded: Whether the plan is shown on request only.
    """
    parts = [(part, metrics[part]) for part in ("val", "test") if part in metrics]
    return render("summary.html", plan=plan, parts=parts, is_folded=is_folded)
