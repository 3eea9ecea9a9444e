"""Find files that cannot be read, and copies of one image."""

import numpy as np
from numpy.typing import NDArray

from transferkit.data.dataset import Dataset
from transferkit.errors import name_some
from transferkit.recipes.auditing.audit_result import Found
from transferkit.tables.audit_findings import Finding, Kind

_ACROSS_LABELS, _ACROSS_PARTS, _HARMLESS = 1.0, 0.8, 0.5
"""Scores of copies: one of two labels is wrong, accuracy is inflated, or only space is wasted."""


def find_unreadable(dataset: Dataset) -> Found:
    """Name the images that cannot be read; the dataset's index has left them out."""
    findings = (
        Finding(Kind.UNREADABLE, item.path, 1.0, item.reason)
        for item in dataset.index.left_out
        if item.unreadable
    )
    return Found({Kind.UNREADABLE: "cannot be decoded to its end"}, tuple(findings))


def find_copies(dataset: Dataset) -> Found:
    """Name every image that has copies, group by group, copies across labels first."""
    groups = sorted(dataset.copied_rows(), key=lambda rows: (-_harm(dataset, rows), rows[0]))
    findings = (
        finding
        for number, rows in enumerate(groups, start=1)
        for finding in _of_group(dataset, rows, number)
    )
    rule = "the same file, or the same image scaled or encoded again"
    return Found({Kind.COPY: rule}, tuple(findings))


def _of_group(dataset: Dataset, rows: NDArray[np.int64], number: int) -> list[Finding]:
    across = _across(dataset, rows)
    return [
        Finding(
            Kind.COPY,
            dataset.index.paths[row],
            _harm(dataset, rows),
            f"{_likeness(dataset, row, rows)} of {_others(dataset, row, rows)}{across}",
            group=number,
        )
        for row in rows
    ]


def _likeness(dataset: Dataset, row: int, rows: NDArray[np.int64]) -> str:
    others = {dataset.sha256[other] for other in rows if other != row}
    return "exact copy" if dataset.sha256[row] in others else "near copy"


def _others(dataset: Dataset, row: int, rows: NDArray[np.int64]) -> str:
    return name_some([dataset.index.paths[other] for other in rows if other != row], limit=2)


def _across(dataset: Dataset, rows: NDArray[np.int64]) -> str:
    """Say what copies divide that should be in one place."""
    told = ""
    if len(names := _labels(dataset, rows)) > 1:
        told += f"; across the labels {name_some(names)}, of which one at most is right"
    if len(parts := _parts(dataset, rows)) > 1:
        told += f"; across {name_some(parts, between=' and ')}, which inflates the accuracy"
    return told


def _harm(dataset: Dataset, rows: NDArray[np.int64]) -> float:
    if len(_labels(dataset, rows)) > 1:
        return _ACROSS_LABELS
    return _ACROSS_PARTS if len(_parts(dataset, rows)) > 1 else _HARMLESS


def _labels(dataset: Dataset, rows: NDArray[np.int64]) -> list[str]:
    return sorted({dataset.index.class_names[dataset.index.labels[row]] for row in rows})


def _parts(dataset: Dataset, rows: NDArray[np.int64]) -> list[str]:
    return sorted({dataset.splits[row] for row in rows})
