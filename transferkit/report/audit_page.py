"""The page of an audit: findings beside each other, and decisions that the browser saves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from transferkit.data.decisions import Decision
from transferkit.report.page import inline_script, render
from transferkit.tables.audit_findings import Finding, Kind

_MOST = 1000
"""At most this many findings of a kind are shown; audit.csv lists all."""

_OPEN = 12
"""So many findings of a kind are seen at once, the others on request."""

_TEXTS = {
    Kind.UNREADABLE: (
        "Unreadable files",
        "Training leaves them out and names them each time. Restore them, or exclude them.",
    ),
    Kind.COPY: (
        "Copies",
        "No split that transferkit makes separates them, but in training they count several times. "
        "Where copies have different labels, all but one are wrong.",
    ),
    Kind.LABEL: (
        "Doubtful labels",
        "Compare each image with typical images of both classes. Relabel it if the label is wrong; "
        "keep it if the image is merely hard.",
    ),
    Kind.OUTLIER: (
        "Outliers",
        "Images unlike all others. Exclude what does not belong to the dataset.",
    ),
    Kind.BLANK: ("Blank images", "There is nothing to learn from them."),
    Kind.DARK: ("Dark images", "Exclude those in which you cannot see the class yourself."),
    Kind.BRIGHT: ("Bright images", "Exclude those in which you cannot see the class yourself."),
    Kind.BLURRED: ("Blurred images", "Exclude those in which you cannot see the class yourself."),
    Kind.TINY: ("Tiny images", "The network sees them enlarged: often they are previews."),
    Kind.LONG: ("Long images", "The network sees the middle only, or all of it squashed."),
    Kind.CONFUSED: (
        "Confused classes",
        "If two classes mean the same, make them one. If not, they need more images.",
    ),
    Kind.SMALL: ("Small classes", "Few images teach little, and measure little. Add some."),
    Kind.SHORTCUT: (
        "Shortcuts",
        "A network may learn these instead of what the images show, and fail without them.",
    ),
}
"""Kind -> title, and what to do about it."""


@dataclass(frozen=True, eq=False)
class AuditReport:
    """Everything that the page of an audit shows.

    Attributes:
        data: The dataset.
        dataset_words: The dataset and how it is read, as a command line has them.
        digest: Digest of the dataset, by which a browser finds the decisions it has kept.
        backbone: What the images were judged by.
        images: Number of readable images.
        class_names: Names of the classes.
        findings: All findings by kind, the clearest of each kind first.
        rules: For each kind, when something is named.
        labels: Path -> name of its class, of all images.
        sha256: Path -> digest of the file, of all readable images.
        typical: Class name -> paths of its typical images.
        thumbnails: Path -> `data:` address, of the images that are shown.
        decisions: What was decided before.
    """

    data: str
    dataset_words: str
    digest: str
    backbone: str
    images: int
    class_names: Sequence[str]
    findings: Sequence[Finding]
    rules: Mapping[Kind, str]
    labels: Mapping[str, str]
    sha256: Mapping[str, str]
    typical: Mapping[str, Sequence[str]]
    thumbnails: Mapping[str, str]
    decisions: Sequence[Decision] = ()


def images_to_show(
    findings: Sequence[Finding], labels: Mapping[str, str], typical: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return paths of readable images that a page wants to show, the most important first.

    Those are the clearest findings of all kinds, each followed by what it is compared with.

    Args:
        findings: All findings by kind, the clearest of each kind first.
        labels: Path -> name of its class, of all readable images.
        typical: Class name -> paths of its typical images.
    """
    ranked = [one for _, of_kind in _by_kind(findings) for one in enumerate(of_kind[:_MOST])]
    wanted = (
        path
        for _, finding in sorted(ranked, key=lambda pair: pair[0])
        for path in (
            finding.path,
            *(each for name in _compared(finding, labels) for each in typical[name]),
        )
    )
    return list(dict.fromkeys(path for path in wanted if path in labels))


def audit_page(report: AuditReport) -> str:
    """Return the HTML of an audit's page."""
    numbers: dict[str, int] = {}
    sections = [
        _section(report, kind, findings, numbers) for kind, findings in _by_kind(report.findings)
    ]
    script = inline_script("audit.js")
    return render(
        "audit.html",
        report=report,
        kinds=[
            {"kind": kind, "title": _TEXTS[kind][0], "rule": rule, "found": _found(report, kind)}
            for kind, rule in report.rules.items()
        ],
        sections=sections,
        named=len({one.path for one in report.findings if one.path}),
        undrawn=sum(_is_undrawn(report, path) for path in numbers),
        script=script,
        contents={
            "key": f"transferkit audit {report.digest}",
            "classes": list(report.class_names),
            "images": [_image(report, path) for path in numbers],
            "decisions": [_row(decision) for decision in report.decisions],
        },
    )


def _by_kind(findings: Sequence[Finding]) -> Iterator[tuple[Kind, list[Finding]]]:
    for kind, of_kind in groupby(findings, key=lambda finding: finding.kind):
        yield kind, list(of_kind)


def _found(report: AuditReport, kind: Kind) -> int:
    return sum(finding.kind is kind for finding in report.findings)


def _compared(finding: Finding, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the classes whose typical images stand beside a finding."""
    if finding.suggested_label:
        return labels[finding.path], finding.suggested_label
    return finding.classes


def _section(
    report: AuditReport, kind: Kind, findings: Sequence[Finding], numbers: dict[str, int]
) -> dict[str, Any]:
    """Return what the page shows of a kind; `numbers` gets its images, path -> number."""
    title, advice = _TEXTS[kind]
    cards = [_card(report, one, numbers) for one in findings[:_MOST]]
    groups = [list(group) for _, group in groupby(cards, key=lambda card: card["group"])]
    is_grouped = kind is Kind.COPY
    return {
        "kind": kind,
        "title": title,
        "advice": advice,
        "rule": report.rules[kind],
        "total": len(findings),
        "grouped": is_grouped,
        "shown": groups if is_grouped else cards,
        "open": _OPEN,
        "missing": len(findings) - len(cards),
    }


def _card(report: AuditReport, finding: Finding, numbers: dict[str, int]) -> dict[str, Any]:
    def number(path: str) -> int:
        return numbers.setdefault(path, len(numbers))

    return {
        "path": finding.path,
        "image": number(finding.path) if finding.path else None,
        "detail": finding.detail,
        "group": finding.group,
        "suggested": finding.suggested_label,
        "compared": [
            (name, [number(path) for path in report.typical[name]])
            for name in _compared(finding, report.labels)
            if report.typical[name]
        ],
    }


def _is_undrawn(report: AuditReport, path: str) -> bool:
    return path in report.sha256 and path not in report.thumbnails


def _image(report: AuditReport, path: str) -> dict[str, Any]:
    return {
        "path": path,
        "label": report.labels.get(path, ""),
        "sha256": report.sha256.get(path, ""),
        "thumbnail": report.thumbnails.get(path, ""),
    }


def _row(decision: Decision) -> dict[str, str]:
    return {
        "path": decision.path,
        "action": decision.action,
        "label": decision.label,
        "sha256": decision.sha256,
    }
