"""Fitted classifiers as files: skops, which holds numbers and names of types, never code to run."""

from pathlib import Path
from typing import Any

import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline

from transferkit.errors import BundleError

TRUSTED = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
)
"""Types that our classifiers consist of, besides those that skops itself trusts."""


def dump_classifier(classifier: Any) -> bytes:
    """The content of a .skops file."""
    content: bytes = skops.io.dumps(classifier)
    return content


def load_classifier(path: Path) -> Any:
    """Read a .skops file; nothing in it is executed.

    Raises:
        BundleError: When there is no such file, it is damaged, or holds types that our classifiers
            do not consist of; these are named.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such file; the run's classifier is missing")
    try:
        data = path.read_bytes()
        strange = sorted(set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED))
        if strange:
            raise BundleError(
                f"{path}: holds {', '.join(strange)}, which no classifier of transferkit consists "
                "of and which could run code; it was not loaded"
            )
        classifier = skops.io.loads(data, trusted=list(TRUSTED))
        if not isinstance(classifier, CalibratedClassifierCV | Pipeline):
            raise BundleError(f"{path}: holds {type(classifier).__name__}, expected a classifier")
        _ = classifier.predict_proba, classifier.classes_, classifier.n_features_in_
    except BundleError:
        raise
    except Exception as error:
        # A damaged file fails in as many ways as there are types in it.
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{path}: cannot be read as a classifier ({type(error).__name__}: {reason})"
        ) from error
    return classifier
