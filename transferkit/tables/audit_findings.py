"""The findings of an audit of a dataset, and audit.csv, in which each has a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from transferkit.places import Place
from transferkit.tables import write_csv

NAME, PAGE = "audit.csv", "audit.html"
"""The files of an audit."""

COLUMNS = ("path", "kind", "score", "suggested_label", "group", "detail")


class Kind(StrEnum):
    """What was found.

    `unreadable`: an image that cannot be read. `copy`: an image that is there more than once.
    `label`: a label that is probably wrong. `outlier`: an image unlike all others. `blank`, `dark`,
    `bright`, `blurred`, `tiny`, `long`: an image of poor quality or odd shape. `confused`: two
    classes that are hardly told apart. `small`: a class of few images. `shortcut`: properties of
    the files that give the class away.
    """

    UNREADABLE = "unreadable"
    COPY = "copy"
    LABEL = "label"
    OUTLIER = "outlier"
    BLANK = "blank"
    DARK = "dark"
    BRIGHT = "bright"
    BLURRED = "blurred"
    TINY = "tiny"
    LONG = "long"
    CONFUSED = "confused"
    SMALL = "small"
    SHORTCUT = "shortcut"


@dataclass(frozen=True)
class Finding:
    """A finding about an image, or about classes.

    Attributes:
        kind: What was found.
        path: Path of the image below the dataset's folder; empty for a finding about classes.
        score: How clear it is, from 0 to 1; of copies, how much harm they do.
        detail: A short sentence.
        suggested_label: The class that the image more probably has; empty where none is suggested.
        group: The number of the image that the copies show, from 1; None for other findings.
        classes: The classes that a finding about classes is about; empty where it is about all.
    """

    kind: Kind
    path: str
    score: float
    detail: str
    suggested_label: str = ""
    group: int | None = None
    classes: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """Path and detail in one line, as a terminal shows them."""
        return f"{self.path}: {self.detail}" if self.path else self.detail


def write_findings(path: Place, findings: Sequence[Finding]) -> None:
    """Write audit.csv, atomically.

    Raises:
        OutputError: When the file cannot be written.
    """
    write_csv(path, COLUMNS, map(_row, findings))


def _row(finding: Finding) -> tuple[str, ...]:
    group = "" if finding.group is None else str(finding.group)
    score = f"{finding.score:.4f}"
    return (finding.path, finding.kind, score, finding.suggested_label, group, finding.detail)
