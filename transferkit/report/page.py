"""Self-contained HTML pages from templates: they load nothing.

Values are escaped unless they are `Markup`, which only this package creates. A page extends
`templates/base.html` and draws with the macros in `templates/figures.html`. It runs no script but
one whose digest its content policy names.
"""

import base64
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from transferkit import __version__
from transferkit.files import utf8_text, whole_file
from transferkit.places import Place

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """Return the HTML of a page.

    Args:
        template: Name of a file in `templates/`.
        **values: Values of the template's variables. Text is escaped, also within SVG.
    """
    text: str = _environment().get_template(template).render(values, version=__version__)
    return text


@dataclass(frozen=True)
class InlineScript:
    """A script inside a page.

    Attributes:
        text: Its text, as it stands between the tags.
        source: How a content policy names it, by its digest.
    """

    text: "Markup"
    source: str


def inline_script(template: str) -> InlineScript:
    """Return a file in `templates/` as a script for a page."""
    from markupsafe import Markup

    environment = _environment()
    text, _, _ = environment.loader.get_source(environment, template)  # type: ignore[union-attr]
    digest = base64.b64encode(sha256(text.encode()).digest()).decode()
    return InlineScript(Markup(text), f"'sha256-{digest}'")


def write_page(path: Place, html: str) -> None:
    """Write a page atomically.

    Raises:
        OutputError: When it cannot be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(utf8_text(html), encoding="utf-8")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("transferkit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, seconds=seconds, count=lambda n: f"{n:,}", rate=lambda r: f"{r:.1e}"
    )
    return environment


def percent(share: float, digits: int = 1) -> str:
    r"""Format a fraction as per cent, with a space that does not break.

    >>> percent(0.8333)
    '83.3\xa0%'
    """
    return f"{100 * share:.{digits}f}\u00a0%"


def seconds(value: float) -> str:
    """Format a duration.

    >>> [seconds(s) for s in (0.42, 75, 5400)]
    ['0.4 s', '1 min 15 s', '1 h 30 min']
    """
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
