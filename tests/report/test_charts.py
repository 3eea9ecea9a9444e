"""Charts: drawn in the page's colours, with ids that do not clash."""

import re

import pytest

from transferkit.report.charts import COLOURS, Axis, Scale, Series, line_chart


def test_line_chart__uses_the_pages_colours_and_ids_of_its_own():
    """A clip path must not have the id of a different one in another chart."""
    charts = [
        line_chart([Series("x", (1, 2), (y, 3), COLOURS[4])], x=Axis("x"), y=Axis("y"), alt="<&>")
        for y in (1, 2)
    ]
    first, second = (chart.svg for chart in charts)

    assert "var(--s5)" in first
    assert "#01" not in first
    assert 'aria-label="&lt;&amp;&gt;"' in first
    assert "<metadata" not in first
    assert "font-family" not in first
    assert '<g id="' not in first
    clips = [re.findall(r'clipPath id="([^"]+)"', svg) for svg in (first, second)]
    assert clips[0] == clips[1] or not set(clips[0]) & set(clips[1])


@pytest.mark.parametrize(
    ("rates", "shown"), [((1e-2, 1e-5), {"1e-3", "1e-4"}), ((4e-3, 2e-3), {"2e-3", "3e-3", "4e-3"})]
)
def test_line_chart__is_logarithmic_only_for_values_far_apart(rates, shown):
    drawn = line_chart(
        [Series("", (1, 2), rates)], x=Axis(""), y=Axis("", Scale.LOG), alt=""
    ).svg  # fmt: skip

    assert shown <= set(re.findall(r">([^<>]+)</text>", drawn))
