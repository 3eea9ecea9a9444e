"""How probabilities become the record of an image: labels, thresholds, sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.confidence import ConfidenceTable
from transferkit.errors import OptionError
from transferkit.inference import Outputs
from transferkit.options.predict import PredictOptions
from transferkit.options.serve import ServeOptions
from transferkit.recipes.shared.predictor import Predictor
from transferkit.reporter import Reporter
from transferkit.tables.predictions import Prediction


@dataclass(frozen=True)
class Answer:
    """How probabilities become a record.

    Attributes:
        class_names: Names of the classes.
        top_k: Number of classes that are listed.
        min_confidence: The confidence below which there is no label.
        set_threshold: The probability from which on a label belongs to the set; None for no sets.
        usual_threshold: The score above which an image is unusual; None where that is not known.
    """

    class_names: Sequence[str]
    top_k: int
    min_confidence: float
    set_threshold: float | None
    usual_threshold: float | None

    def predictions(self, names: Sequence[str], part: Outputs) -> list[Prediction]:
        """Return the records of a batch of images, in the order of `names`."""
        found = {
            row: Prediction(names[row], None, None, (), reason) for row, reason in part.failures
        }
        for row, values, score in part.by_image():
            found[row] = self.prediction(names[row], values, score)
        return [found[row] for row in sorted(found)]

    def prediction(
        self, path: str, row: NDArray[np.floating[Any]], score: float | None
    ) -> Prediction:
        """Return the record of an image.

        Args:
            path: Its name.
            row: (C,) probabilities.
            score: How unusual it is, if that is known.
        """
        names, order = self.class_names, np.argsort(-row, kind="stable")
        confidence = float(row[order[0]])
        abstains = confidence < self.min_confidence
        top = tuple((names[i], float(row[i])) for i in order[: self.top_k])
        members = None
        if self.set_threshold is not None:
            members = tuple(names[i] for i in order if row[i] >= self.set_threshold)
        limit = self.usual_threshold
        return Prediction(
            path,
            None if abstains else top[0][0],
            confidence,
            top,
            abstained=abstains,
            set=members,
            unusual=None if score is None or limit is None else score > limit,
            unusual_score=score,
        )


def choose_answer(
    options: PredictOptions | ServeOptions, predictor: Predictor, reporter: Reporter
) -> Answer:
    """Find the thresholds that the options ask for."""
    min_confidence, set_threshold = options.min_confidence, None
    if options.accuracy is not None:
        table = _confidence("--accuracy", options, predictor)
        chosen = table.threshold_for(options.accuracy)
        min_confidence = chosen.threshold
        record = chosen.to_record(table.images)
        interval = record["accuracy_interval"]
        reporter.notice(
            f"--accuracy {options.accuracy:g}: answers from a confidence of {min_confidence:.3f} "
            f"on; of {table.images} validation images {record['share']:.1%} reach it, and "
            f"{record['accuracy']:.1%} of those answers are right "
            f"({interval['low']:.1%} to {interval['high']:.1%})"
        )
    if options.sets is not None:
        set_threshold = _confidence("--sets", options, predictor).set_threshold(options.sets)
    return Answer(
        predictor.class_names,
        options.top_k,
        min_confidence,
        set_threshold,
        predictor.usual_threshold,
    )


def _confidence(
    flag: str, options: PredictOptions | ServeOptions, predictor: Predictor
) -> ConfidenceTable:
    if predictor.confidence is None:
        raise OptionError(
            f"{flag}: {options.model} does not say what its confidence is worth; train it again "
            "with this version"
        )
    return predictor.confidence
