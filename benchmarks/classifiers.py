"""Compare scikit-learn classifiers on features of one dataset, by nested cross-validation.

    python benchmarks/classifiers.py DATA WEIGHTS OUT

Five outer folds are held out in turn; within the rest each classifier chooses its settings as
`finetune --strategy features` does, so that no image influences its own prediction. Copies of an
image stay in one fold. Writes OUT/classifiers.md. The interval is Wilson's, over all images.
"""

import hashlib
import time
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

import transferkit
from transferkit.classifiers import Classifier
from transferkit.classifiers.fitting import fit_classifier
from transferkit.metrics import wilson_interval

ROWS = [("resnet18", kind) for kind in Classifier] + [("edges8", Classifier.SVM)]


def main(data: Path, weights: Path, out: Path) -> None:
    """Extract the features of each backbone once, then fit every classifier."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ["| features | classifier | 5-fold accuracy | 95 % interval | seconds a fit |"]
    lines.append("|---|---|---|---|---|")
    for backbone, kind in ROWS:
        features, labels, groups = extracted(data, backbone, weights, out)
        correct, seconds = cross_validated(kind, features, labels, groups)
        interval = wilson_interval(correct, len(labels))
        lines.append(
            f"| {backbone} | {kind} | {correct / len(labels):.3f} "
            f"| {interval['low']:.3f} to {interval['high']:.3f} | {seconds:.1f} |"
        )
        print(lines[-1], flush=True)
    (out / "classifiers.md").write_text("\n".join(lines) + "\n")


def extracted(
    data: Path, backbone: str, weights: Path, out: Path
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return features, labels, and numbers that are equal for byte-identical images."""
    file = out / f"{backbone}.npz"
    if not file.exists():
        given = {} if backbone == "edges8" else {"weights": str(weights)}
        transferkit.extract_features(data, file, backbone=backbone, precision="fp32", **given)
    with np.load(file) as table:
        shas = [hashlib.sha256((data / path).read_bytes()).hexdigest() for path in table["paths"]]
        groups = np.unique(shas, return_inverse=True)[1]
        return table["features"], table["labels"], groups


def cross_validated(
    kind: Classifier,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> tuple[int, float]:
    """Return the number of correct held-out images, and the mean seconds of a search and fit."""
    correct, seconds = 0, []
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for train, test in folds.split(features, labels, groups):
        started = time.perf_counter()
        fitted = fit_classifier(kind, features[train], labels[train], seed=0, copies=groups[train])
        seconds.append(time.perf_counter() - started)
        said = fitted.estimator.predict_proba(features[test]).argmax(axis=1)
        correct += int((said == labels[test]).sum())
    return correct, float(np.mean(seconds))


if __name__ == "__main__":
    typer.run(main)
