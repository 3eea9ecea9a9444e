"""`transferkit audit`."""

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.console import Console

from transferkit.cli.console import inert, standard_output
from transferkit.cli.exits import exit_for_unreadable
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.audit import AuditOptions
from transferkit.tables.audit_findings import NAME, PAGE, Finding, Kind

if TYPE_CHECKING:
    from transferkit.recipes.auditing.audit_result import Audit

_SHOWN = 3
"""How many findings of a kind are printed."""

_INDENT = " " * 19


@takes(AuditOptions)
def audit(options: AuditOptions, invocation: Invocation) -> None:
    """Look for what is wrong in a folder of images before you train on it.

    Examples:
        transferkit audit photos
        transferkit audit photos -o runs/photos-audit

    Names unreadable files, copies, labels that are probably wrong, images unlike all others, poor
    images, confused and small classes, and properties of the files that give the class away. Prints
    the worst of each kind and writes all to audit.csv. In audit.html you look at the images and
    decide what to keep, relabel or exclude. The images are not changed.
    """
    from transferkit.recipes.audit import audit as recipe

    found = recipe(options, invocation.reporter)
    print_audit(found, standard_output())
    exit_for_unreadable(found.left_out)


def print_audit(found: "Audit", console: Console) -> None:
    """Print how much of each kind was found by which rule, the worst of it, and the files.

    No line but the last two is wider than the console.
    """
    images = f"{found.images} image{'' if found.images == 1 else 's'}"
    classes = len(found.class_names)
    print(f"{images} of {classes} class{'' if classes == 1 else 'es'}")
    for kind in Kind:
        findings = found.of_kind(kind)
        _print_line(f"{kind:>10} {len(findings):>6}  {found.rules[kind]}", console)
        for finding in _worst(findings):
            _print_line(f"{_INDENT}{finding.subject}", console)
    print(f"findings: {found.folder / NAME}")
    print(f"page: {found.folder / PAGE}")


def _worst(findings: Sequence[Finding]) -> list[Finding]:
    """Return the first findings, and of copies of one image only the first."""
    distinct: dict[int, Finding] = {}
    for row, finding in enumerate(findings):
        distinct.setdefault(row if finding.group is None else -finding.group, finding)
    return list(distinct.values())[:_SHOWN]


def _print_line(text: str, console: Console) -> None:
    """Print a line, and continue it below its third column where it is too long."""
    lines = wrap(inert(text), console.width, subsequent_indent=_INDENT, break_on_hyphens=False)
    print("\n".join(lines))
