"""Choose the images whose label would teach the model most."""

import heapq
from collections.abc import Iterable

from transferkit.tables.predictions import Prediction


def least_sure(predictions: Iterable[Prediction], count: int) -> list[Prediction]:
    """Return the predictions with the smallest margins, the smallest first.

    The margin is the difference of the two highest probabilities: margin sampling (Settles, "Active
    Learning Literature Survey", 2009, section 3.1). Where it is small, the model hesitates between
    two classes, and the label says which of them it is.

    Args:
        predictions: Predictions with two or more classes each, if the model has that many.
        count: Number of predictions to choose, of images that could be read.

    Returns:
        The chosen predictions, and after them those of all images that could not be read.
    """
    unreadable: list[Prediction] = []

    def readable() -> Iterable[Prediction]:
        for prediction in predictions:
            if prediction.error is None:
                yield prediction
            else:
                unreadable.append(prediction)

    # Images with equal margins keep their order.
    return [*heapq.nsmallest(count, readable(), key=_margin), *unreadable]


def _margin(prediction: Prediction) -> float:
    first, *others = (probability for _, probability in prediction.top)
    return first - (others[0] if others else 0.0)
