"""Options of how probabilities become an answer, which `predict` and `serve` share."""

from typing import Annotated, Protocol

from transferkit.errors import OptionError
from transferkit.options.declaration import Option, Range
from transferkit.options.shared import OUTPUT

TopK = Annotated[
    int, Option(panel=OUTPUT, help="How many classes each record lists.", within=Range(1, 1000))
]

MinConfidence = Annotated[
    float,
    Option(panel=OUTPUT, help="Leave the label out below this confidence.", within=Range(0, 1)),
]

Accuracy = Annotated[
    float | None,
    Option(
        panel=OUTPUT,
        help="Instead of --min-confidence: the share of labels that are to be right. The "
        "confidence for it is the one that the validation images needed.",
        within=Range(0, 1),
        show_default=False,
    ),
]

Sets = Annotated[
    float | None,
    Option(
        panel=OUTPUT,
        help="Add a set of labels to each record; this share of sets is to hold the right "
        "label (split conformal prediction).",
        within=Range(0, 1),
        show_default=False,
    ),
]


class _Answering(Protocol):
    """Options that have those of this module."""

    @property
    def min_confidence(self) -> float: ...
    @property
    def accuracy(self) -> float | None: ...
    @property
    def sets(self) -> float | None: ...
    @property
    def tta(self) -> bool: ...


def require_one_threshold(options: _Answering) -> None:
    """Check that at most one option sets the lowest confidence, and that it was measured.

    Raises:
        OptionError: When two do, or when `tta` changes the confidences that were measured.
    """
    if options.accuracy is not None and options.min_confidence:
        raise OptionError(
            "--accuracy chooses the lowest confidence itself; leave out --min-confidence"
        )
    for flag, value in (("--accuracy", options.accuracy), ("--sets", options.sets)):
        if value is not None and options.tta:
            raise OptionError(
                f"{flag} rests on confidences that were measured without --tta; leave one out"
            )
