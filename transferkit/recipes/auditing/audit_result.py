"""What a step of an audit finds, and the result of the whole audit."""

from collections.abc import Mapping
from dataclasses import dataclass

from transferkit.places import Place
from transferkit.report.embedding import embedded_page
from transferkit.reporter import LeftOut
from transferkit.tables.audit_findings import PAGE, Finding, Kind


@dataclass(frozen=True)
class Found:
    """What one step of an audit found.

    Attributes:
        rules: For each kind that it looks for, when something is named, in a few words.
        findings: The findings, those of a kind in order, the clearest first.
    """

    rules: Mapping[Kind, str]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        folder: The folder that was written.
        images: Number of readable images.
        class_names: Names of the classes.
        findings: All findings by kind, the clearest of each kind first.
        rules: For each kind that was looked for, when something is named, in a few words.
        left_out: Files of the dataset that are not used, with their reasons.
    """

    folder: Place
    images: int
    class_names: tuple[str, ...]
    findings: tuple[Finding, ...]
    rules: Mapping[Kind, str]
    left_out: tuple[LeftOut, ...]

    def _repr_html_(self) -> str:
        """Return the audit's page, as notebooks show it; decisions can be made and saved there."""
        return embedded_page(self.folder / PAGE, runs_script=True)

    def of_kind(self, kind: Kind) -> tuple[Finding, ...]:
        """Return the findings of a kind, the clearest first."""
        return tuple(finding for finding in self.findings if finding.kind is kind)
