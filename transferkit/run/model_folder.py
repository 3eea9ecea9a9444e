"""The folder of a model: the names of its files, and where it lies. Imports no torch."""

from hashlib import sha256
from pathlib import Path

from transferkit.errors import BundleError
from transferkit.files import file_digest

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CLASSIFIER = "classifier.skops"
CONFIDENCE = "confidence.json"
"""What the model's confidence is worth, measured on the run's validation images."""

USUAL = "usual_images.safetensors"
"""Features of validation images, which tell unusual ones."""

EXPORTED = "model.onnx"
"""The model as ONNX, if `transferkit export` wrote it there."""


def model_folder(path: Path) -> Path:
    """Return the model folder of a run, or `path` itself if it is one.

    Raises:
        BundleError: When there is no model there.
    """
    for folder in (path / "model", path):
        if (folder / CONFIG).is_file():
            return folder
    if not path.exists():
        raise BundleError(f"{path}: no such run; expected the folder that finetune wrote")
    if path.suffix == Path(EXPORTED).suffix:
        raise BundleError(
            f"{path}: is an exported model, which predict and evaluate take; name the run that it "
            "came from"
        )
    if not path.is_dir():
        raise BundleError(f"{path}: a file; expected the folder of a run, or the model/ in it")
    raise BundleError(
        f"{path}: a folder without a model; expected model/{CONFIG} in it, which finetune writes "
        "at the end of a run"
    )


def model_digest(folder: Path) -> str:
    """Return a digest of a model: that of its weights, or of its weights and its classifier."""
    weights, classifier = folder / WEIGHTS, folder / CLASSIFIER
    if not classifier.is_file():
        return file_digest(weights)
    return sha256((file_digest(weights) + file_digest(classifier)).encode()).hexdigest()
