"""Find shortcuts: properties of the files that give a class away without looking at the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.classifiers.forest import held_out_labels
from transferkit.data.dataset import Dataset
from transferkit.data.image_measures import ImageMeasures
from transferkit.intervals import wilson_interval
from transferkit.recipes.auditing.audit_result import Found
from transferkit.recipes.auditing.find_label_errors import reason_against_folds
from transferkit.reporter import Reporter
from transferkit.sampling import evenly_spaced
from transferkit.tables.audit_findings import Finding, Kind

_WAY = 0.5
"""A shortcut is named beyond this part of the way from the baseline to always being right.

Photographs have honest signals too: of a black cat most pixels are dark. On photographs of 12 cat
breeds, all properties together reach 19 % (8 % by chance), and find the most obvious breed again
in 27 % of the images that are of it or taken for it."""

_MOST = 5000
"""At most this many images are looked at, evenly spaced over the classes."""

_RULE = (
    "the lower end of the interval is beyond the middle between the baseline and 100 %, by size, "
    "colour, format and compression alone"
)


@dataclass(frozen=True)
class _Guess:
    """How often properties alone are right.

    Attributes:
        right: Number of images that are told rightly.
        count: Number of images that this is a share of.
        baseline: The share without looking at any property.
    """

    right: int
    count: int
    baseline: float

    @property
    def share(self) -> float:
        return self.right / self.count

    @property
    def is_shortcut(self) -> bool:
        low: float = wilson_interval(self.right, self.count)["low"]
        return low > self.baseline + _WAY * (1 - self.baseline)

    def describe(self) -> str:
        """Return the share with its interval and the baseline."""
        interval = wilson_interval(self.right, self.count)
        return (
            f"{self.share:.0%} ({interval['low']:.0%} to {interval['high']:.0%}; "
            f"baseline {self.baseline:.0%})"
        )


def find_shortcuts(
    dataset: Dataset, measures: ImageMeasures, seed: int, reporter: Reporter
) -> Found:
    """Say how far properties of the files alone predict the label, if they do.

    A forest on the properties predicts images that it has not seen. Two shares are looked at: the
    accuracy, beside that of the most frequent class; and for each class the share of rightly told
    images among those that are of the class or are taken for it, beside that of calling every image
    so.

    Args:
        dataset: The dataset.
        measures: The measures of its N images.
        seed: Seed of the folds and forests.
        reporter: Receives the progress.
    """
    if reason_against_folds(dataset):
        return Found({Kind.SHORTCUT: "not looked for: too few images or classes"})
    properties, names = _properties(measures), dataset.index.class_names
    all_properties = np.concatenate([*properties.values()], axis=1)
    rows = evenly_spaced(len(dataset.index), _MOST)
    rows = rows[np.isfinite(all_properties[rows]).all(axis=1)]
    labels, copies = dataset.index.labels[rows], dataset.copies[rows]

    def predict(values: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        progress.advance(len(rows))
        return held_out_labels(values[rows], labels, seed=seed, copies=copies)

    with reporter.progress("looking for shortcuts", len(rows) * (1 + len(properties))) as progress:
        named = _shortcuts(labels, predict(all_properties))
        if not named:
            return Found({Kind.SHORTCUT: _RULE})
        alone = {name: predict(values) for name, values in properties.items()}
    findings = [
        Finding(
            Kind.SHORTCUT,
            "",
            guess.share,
            _sentence(guess, label, labels, alone, names),
            classes=() if label is None else (names[label],),
        )
        for label, guess in named
    ]
    return Found({Kind.SHORTCUT: _RULE}, tuple(findings))


def _properties(measures: ImageMeasures) -> Mapping[str, NDArray[np.float32]]:
    """Return each property as (N, K)."""
    single = {
        "width": measures.width,
        "height": measures.height,
        "aspect": measures.width / measures.height,
        "file format": measures.format,
        "JPEG compression": measures.quantization,
        "bytes per pixel": measures.bytes_per_pixel,
    }
    colour = np.stack([measures.red, measures.green, measures.blue], axis=1)
    return {"mean colour": colour, **{name: values[:, None] for name, values in single.items()}}


def _shortcuts(
    labels: NDArray[np.int64], predicted: NDArray[np.int64]
) -> list[tuple[int | None, _Guess]]:
    """Return the shortcuts: to all classes, under None, then to single ones, the clearest first."""
    overall = _guess(labels, predicted, None)
    of_class = [(i, _guess(labels, predicted, i)) for i in np.unique(labels).tolist()]
    named = sorted((pair for pair in of_class if pair[1].is_shortcut), key=lambda p: -p[1].share)
    return [*([(None, overall)] if overall.is_shortcut else []), *named]


def _guess(labels: NDArray[np.int64], predicted: NDArray[np.int64], label: int | None) -> _Guess:
    """Return how often labels, or one of them, are told rightly."""
    if label is None:
        frequent = int(np.bincount(labels).max())
        return _Guess(int((labels == predicted).sum()), len(labels), frequent / len(labels))
    of, taken = labels == label, predicted == label
    return _Guess(int((of & taken).sum()), int((of | taken).sum()), float(of.mean()))


def _sentence(
    guess: _Guess,
    label: int | None,
    labels: NDArray[np.int64],
    alone: Mapping[str, NDArray[np.int64]],
    class_names: tuple[str, ...],
) -> str:
    shares = {name: _guess(labels, told, label).share for name, told in alone.items()}
    best = max(shares, key=lambda name: shares[name])
    what = "the labels" if label is None else class_names[label]
    return (
        f"{what}: told by properties of the files alone in {guess.describe()}; best by {best} "
        f"alone, {shares[best]:.0%}"
    )
