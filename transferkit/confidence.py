"""What a model's confidence is worth, as measured on its validation images. Imports no torch.

Two questions are answered: from which confidence on are answers right often enough (selective
classification: El-Yaniv and Wiener, JMLR 11, 2010), and which labels make a set that holds the
right one often enough (split conformal prediction: Sadinle, Lei and Wasserman, JASA 114, 2019).
Both assume that new images are of the same kind as the validation images.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.errors import OptionError
from transferkit.intervals import wilson_interval
from transferkit.metrics import Labels, Probabilities
from transferkit.sampling import evenly_spaced

_MOST_POINTS = 1000
"""A table of more images holds this many of them, evenly spaced, so that its file stays small."""

_SHOWN_SHARES = tuple(percent / 100 for percent in range(100, 0, -5))


@dataclass(frozen=True)
class Answering:
    """What answering only the surest images means.

    Attributes:
        threshold: The confidence from which on images are answered.
        answered: Number of validation images that reach it.
        correct: Number of those that are answered correctly.
    """

    threshold: float
    answered: int
    correct: int

    def to_record(self, images: int) -> dict[str, Any]:
        """Return threshold, share of all `images`, n, accuracy and accuracy_interval."""
        return {
            "threshold": self.threshold,
            "share": self.answered / images,
            "n": self.answered,
            "accuracy": self.correct / self.answered,
            "accuracy_interval": wilson_interval(self.correct, self.answered),
        }


@dataclass(frozen=True)
class ConfidenceTable:
    """The confidence of a model on its validation images.

    Attributes:
        images: Number of validation images.
        answering: What some thresholds mean, from the highest to the lowest.
        label_probabilities: (probability, number of images whose label has at most that
            probability), rising.
    """

    images: int
    answering: tuple[Answering, ...]
    label_probabilities: tuple[tuple[float, int], ...]

    @classmethod
    def measure(cls, labels: Labels, probabilities: Probabilities) -> "ConfidenceTable":
        """Measure a model.

        Args:
            labels: (N,) int64 with N > 0.
            probabilities: (N, C), of images that the model was not trained on.
        """
        own = np.sort(probabilities[np.arange(len(labels)), labels])
        values, upto = _thinned(own)
        return cls(
            len(labels),
            _answering(labels, probabilities),
            tuple(zip(values.tolist(), upto.tolist(), strict=True)),
        )

    def threshold_for(self, accuracy: float) -> Answering:
        """Return the lowest threshold that makes the answers accurate.

        Half a right and half a wrong answer are added to those that were seen (the prior of
        Jeffreys): a few right answers in a row do not show that all will be right.

        Args:
            accuracy: The wanted accuracy of the answers, 0..1.

        Raises:
            OptionError: When no threshold does.
        """
        enough = [one for one in self.answering if _expected(one) >= accuracy]
        if not enough:
            best = max(map(_expected, self.answering))
            raise OptionError(
                f"--accuracy: {self.images} validation images show no threshold with an accuracy "
                f"of {accuracy:g}, the highest is {best:.3f}; ask for less, or train with more "
                "validation images"
            )
        return enough[-1]

    def set_threshold(self, coverage: float) -> float:
        """Return the probability from which on a label belongs to the set of an image.

        Args:
            coverage: The share of images whose set is to hold their label, 0..1.

        Raises:
            OptionError: When there are too few validation images for it.
        """
        # Rounded first: (1 - 0.95) * 20 is a little less than 1.
        allowed = int(np.floor(round((1 - coverage) * (self.images + 1), 9)))
        if allowed < 1:
            most = self.images / (self.images + 1)
            raise OptionError(
                f"--sets: {self.images} validation images allow sets with a coverage of at most "
                f"{np.floor(1000 * most) / 1000:g}, got {coverage:g}; ask for less, or train with "
                "more validation images"
            )
        return max((p for p, images in self.label_probabilities if images <= allowed), default=0.0)

    def to_record(self) -> dict[str, Any]:
        """Return the table as JSON values."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ConfidenceTable":
        """Read a table from JSON values.

        Raises:
            ValueError: When it is none.
        """
        try:
            answering = tuple(
                Answering(float(one["threshold"]), int(one["answered"]), int(one["correct"]))
                for one in record["answering"]
            )
            own = tuple((float(p), int(images)) for p, images in record["label_probabilities"])
            images = int(record["images"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"is no table of confidence ({error})") from error
        if images < 1 or not answering or not own or min(a.answered for a in answering) < 1:
            raise ValueError("is no table of confidence, it holds no images")
        return cls(images, answering, own)


def risk_coverage(labels: Labels, probabilities: Probabilities) -> list[dict[str, Any]]:
    """Return what answering the surest images means, for shares in steps of 5 %.

    Args:
        labels: (N,) int64 with N > 0.
        probabilities: (N, C), of images that the model was not trained on.

    Returns:
        JSON values, see `Answering.to_record`, from all images to the surest; where several images
        are equally sure, the share that is answered is the next larger one.
    """
    thresholds, answered, correct = _by_falling_confidence(labels, probabilities)
    wanted = np.ceil(np.array(_SHOWN_SHARES) * len(labels) - 1e-9)
    rows = dict.fromkeys(np.searchsorted(answered, wanted).tolist())
    return [
        Answering(float(thresholds[row]), int(answered[row]), int(correct[row])).to_record(
            len(labels)
        )
        for row in rows
    ]


def _expected(one: Answering) -> float:
    return (one.correct + 0.5) / (one.answered + 1)


def _answering(labels: Labels, probabilities: Probabilities) -> tuple[Answering, ...]:
    columns = _by_falling_confidence(labels, probabilities)
    some = evenly_spaced(len(columns[0]), _MOST_POINTS)
    return tuple(
        Answering(*row) for row in zip(*(column[some].tolist() for column in columns), strict=True)
    )


def _by_falling_confidence(
    labels: Labels, probabilities: Probabilities
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return every confidence that occurs, and how many images reach it, and how many correctly."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    return confidence[order][last], last + 1, np.cumsum(correct[order])[last]


def _thinned(rising: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return some of the values, and how many are at most as large as each."""
    values = np.unique(rising)
    values = values[evenly_spaced(len(values), _MOST_POINTS)]
    return values, np.searchsorted(rising, values, side="right")
