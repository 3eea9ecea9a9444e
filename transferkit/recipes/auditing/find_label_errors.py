"""Find labels that are probably wrong, and classes that are hardly told apart or small."""

import numpy as np
from numpy.typing import NDArray

from transferkit.classifiers.fitting import require_enough
from transferkit.classifiers.held_out import held_out_probabilities
from transferkit.data.dataset import Dataset
from transferkit.errors import DataError
from transferkit.metrics import DOUBT_FACTOR, confused_pairs, confusion, doubtful_labels
from transferkit.recipes.auditing.audit_result import Found
from transferkit.reporter import Reporter
from transferkit.tables.audit_findings import Finding, Kind

_CONFUSED_SHARE, _CONFUSED_IMAGES = 0.15, 10
"""Share of the images of two classes that are taken for the other class, and their least number,
from which the classes are called confused."""

_FEWEST, _SHARE_OF_MEDIAN = 20, 0.1
"""A class is small below this number of images, or below this share of the median class."""


def judge_labels(
    dataset: Dataset, features: NDArray[np.float32], seed: int, reporter: Reporter
) -> NDArray[np.float64] | None:
    """Return the probabilities (N, C) of each image by a model that has not seen it or its copies.

    Rows that could not be judged are NaN. None where the dataset is too small to hold any out.

    Args:
        dataset: The dataset.
        features: (N, D).
        seed: Seed of the folds.
        reporter: Receives the progress.

    Raises:
        DataError: When features are not finite.
    """
    labels = dataset.index.labels
    if reason := reason_against_folds(dataset):
        reporter.notice(f"labels cannot be judged: {reason}")
        return None
    with reporter.progress("judging labels", len(labels)) as progress:
        return held_out_probabilities(
            features,
            labels,
            seed=seed,
            copies=dataset.copies,
            groups=dataset.together if dataset.groups else None,
            report=progress.advance,
        )


def reason_against_folds(dataset: Dataset) -> str:
    """Return why models cannot be trained on a part of the dataset; empty if they can."""
    if len(dataset.index.class_names) < 2:
        return "there is one class only"
    try:
        require_enough(dataset.index.labels, dataset.copies)
    except DataError as error:
        return str(error)
    return ""


def find_label_errors(dataset: Dataset, probabilities: NDArray[np.float64] | None) -> Found:
    """Name labels that are probably wrong, the most doubtful first; copies are told as copies.

    Args:
        dataset: The dataset.
        probabilities: What `judge_labels` returned.
    """
    if probabilities is None:
        return Found({Kind.LABEL: "not looked for: too few images or classes"})
    index = dataset.index
    rows = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    contradicted = {row for rows in dataset.copied_rows() for row in _several(dataset, rows)}
    judged, labels = probabilities[rows], index.labels[rows]
    findings = []
    for position, suggested, doubt in doubtful_labels(labels, judged):
        row, label = int(rows[position]), int(labels[position])
        if row in contradicted:
            continue
        own, other = float(judged[position, label]), float(judged[position, suggested])
        name = index.class_names[suggested]
        findings.append(
            Finding(
                Kind.LABEL,
                index.paths[row],
                doubt,
                f"labelled {index.class_names[label]} ({own:.1%}), looks like {name} ({other:.1%})",
                suggested_label=name,
            )
        )
    rule = f"another class {DOUBT_FACTOR} times as probable, by a model that never saw the image"
    return Found({Kind.LABEL: rule}, tuple(findings))


def find_confused_classes(dataset: Dataset, probabilities: NDArray[np.float64] | None) -> Found:
    """Name pairs of classes that are often taken for each other, the worst first.

    Args:
        dataset: The dataset.
        probabilities: What `judge_labels` returned.
    """
    if probabilities is None:
        return Found({Kind.CONFUSED: "not looked for: too few images or classes"})
    judged = ~np.isnan(probabilities[:, 0])
    table = confusion(dataset.index.labels[judged], probabilities[judged])
    names = dataset.index.class_names
    findings = (
        Finding(
            Kind.CONFUSED,
            "",
            share,
            f"{names[a]} and {names[b]}: {count} images, {share:.0%}, are taken for the other",
            classes=(names[a], names[b]),
        )
        for a, b, count, share in confused_pairs(table)
        if share >= _CONFUSED_SHARE and count >= _CONFUSED_IMAGES
    )
    rule = f"{_CONFUSED_SHARE:.0%} of two classes, and {_CONFUSED_IMAGES} images, are mistaken"
    return Found({Kind.CONFUSED: rule}, tuple(findings))


def find_small_classes(dataset: Dataset) -> Found:
    """Name classes of few images, the smallest first; copies of an image count once."""
    labels, names = dataset.index.labels, dataset.index.class_names
    _, first = np.unique(dataset.copies, return_index=True)
    counts = np.bincount(labels[first], minlength=len(names))
    limit = max(float(_FEWEST), _SHARE_OF_MEDIAN * float(np.median(counts)))
    findings = (
        Finding(
            Kind.SMALL,
            "",
            float(1 - counts[i] / limit),
            f"{names[i]}: {counts[i]} image{'' if counts[i] == 1 else 's'}",
            classes=(names[i],),
        )
        for i in np.argsort(counts, kind="stable")
        if counts[i] < limit
    )
    return Found({Kind.SMALL: f"fewer than {limit:.3g} images, without copies"}, tuple(findings))


def _several(dataset: Dataset, rows: NDArray[np.int64]) -> list[int]:
    """Return the positions of copies if they carry several labels."""
    return rows.tolist() if len(set(dataset.index.labels[rows].tolist())) > 1 else []
