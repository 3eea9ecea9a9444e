"""Save and load fitted classifiers with skops, whose files never contain code to run."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline

from transferkit.errors import BundleError

NEEDED = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
)
"""Types in our classifiers that skops does not trust by default."""

ALLOWED = frozenset(
    (
        *NEEDED,
        *("builtins.dict", "builtins.list", "builtins.str", "builtins.tuple"),
        *("numpy.float64", "numpy.ndarray", "numpy.random.mtrand.RandomState"),
        *("sklearn.calibration.CalibratedClassifierCV", "sklearn.pipeline.Pipeline"),
        *("sklearn.linear_model._logistic.LogisticRegression", "sklearn.svm._classes.SVC"),
        "sklearn.linear_model._ridge.RidgeClassifier",
        "sklearn.neighbors._classification.KNeighborsClassifier",
        "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelBinarizer",
    )
)
"""All types in our classifiers; skops itself trusts hundreds more."""


def dump_classifier(classifier: Any) -> bytes:
    """Return a classifier as the content of a .skops file."""
    content: bytes = skops.io.dumps(classifier)
    return content


def load_classifier(path: Path) -> Any:
    """Read a classifier from a .skops file without running any code from it.

    Raises:
        BundleError: When there is no such file, it is damaged, or it contains types that none of
            our classifiers has; names these types.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such file; the run's classifier is missing")
    try:
        data = path.read_bytes()
        if strange := sorted(set(_strange_types(data))):
            raise BundleError(
                f"{path}: contains {', '.join(strange)}, which no classifier of transferkit needs "
                "and which could run code; it was not loaded"
            )
        classifier = skops.io.loads(data, trusted=list(NEEDED))
        if not isinstance(classifier, CalibratedClassifierCV | Pipeline):
            found = type(classifier).__name__
            raise BundleError(f"{path}: contains {found}, expected a classifier")
        _try(classifier)
    except BundleError:
        raise
    except Exception as error:
        # Damaged files raise many kinds of errors, depending on the types in them.
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{path}: cannot be read as a classifier ({type(error).__name__}: {reason})"
        ) from error
    return classifier


def _strange_types(data: bytes) -> Iterator[str]:
    """Yield types in a .skops file that none of our classifiers has, without loading the file."""
    yield from set(skops.io.get_untrusted_types(data=data)) - set(NEEDED)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        waiting = [json.loads(archive.read("schema.json"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            waiting += node.values()
            name = f"{node.get('__module__')}.{node.get('__class__')}"
            if "__class__" in node and name not in ALLOWED:
                yield name
        elif isinstance(node, list):
            waiting += node


def _try(classifier: Any) -> None:
    """Check the classifier by predicting a row of zeros.

    Raises:
        ValueError: When the prediction is not one probability per class.
    """
    classes = classifier.classes_
    answer = classifier.predict_proba(np.zeros((1, classifier.n_features_in_), dtype=np.float32))
    distinct = np.issubdtype(classes.dtype, np.integer) and len(set(classes)) == len(classes)
    if not distinct or answer.shape != (1, len(classes)) or not np.isclose(answer.sum(), 1):
        raise ValueError("it does not predict probabilities of distinct classes")
