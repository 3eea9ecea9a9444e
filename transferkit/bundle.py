"""The model that a run leaves: a folder with everything that prediction needs.

`config.json` and `model.safetensors` are timm's own local-directory layout, so
`timm.create_model("local-dir:RUN/model", pretrained=True)` loads the networks that timm builds.
A classifier fitted on features is stored in `classifier.skops`; its network has no head. What the
model's confidence is worth is in `confidence.json`, and what tells unusual images in
`usual_images.safetensors`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from transferkit import __version__
from transferkit.calibration import at_temperature
from transferkit.compute import ComputeSettings
from transferkit.confidence import ConfidenceTable
from transferkit.data.image_inputs import as_images
from transferkit.data.images import ImageSource
from transferkit.devices import Precision
from transferkit.errors import BundleError, TransferKitError
from transferkit.files import json_text, whole_folder, write_json
from transferkit.forward_pass import create_pass, features_of
from transferkit.inference import Outputs, PreparedPass, collect, require_readable
from transferkit.models import HUB_PREFIX, LOCAL_PREFIX
from transferkit.models.create_network import create_network
from transferkit.models.downloads import hub_file
from transferkit.models.feature_extractor import FeatureExtractor, Pool
from transferkit.models.network import Network
from transferkit.models.usual_images import UsualImages
from transferkit.network_outputs import (
    probabilities_and_scores_in_parts,
    probabilities_in_parts,
)
from transferkit.places import Place
from transferkit.run.model_folder import (
    CLASSIFIER,
    CONFIDENCE,
    CONFIG,
    USUAL,
    WEIGHTS,
    model_folder,
)
from transferkit.run.stored_model import local_model

_NOT_SAVED = (
    # the source of the pretrained weights
    *("url", "file", "hf_hub_id", "hf_hub_filename", "source", "custom_load"),
    # settings that are valid for the pretrained image size only
    *("test_input_size", "test_crop_pct", "test_pool_size", "pool_size", "min_input_size"),
    # stored elsewhere in the file
    *("architecture", "label_names", "label_descriptions", "transferkit"),
)


@dataclass(frozen=True, eq=False)
class FeatureHead:
    """A classifier on features, in place of a network's head.

    Attributes:
        classifier: A scikit-learn classifier, (N, D) to probabilities; its classes are positions
            in the list of class names.
        layers: Layers whose outputs are the features.
        pool: Pooling of feature maps to vectors.
        temperature: What the logarithms of the classifier's probabilities are divided by.
    """

    classifier: Any
    layers: tuple[str, ...]
    pool: Pool
    temperature: float = 1.0

    @classmethod
    def load(
        cls, path: Path, layers: tuple[str, ...], pool: Pool, temperature: float
    ) -> "FeatureHead":
        """Load the classifier from a .skops file.

        Raises:
            BundleError: When it is missing, damaged, or contains types that no classifier needs.
        """
        # Imported here: scikit-learn takes seconds to import, and most models do not need it.
        from transferkit.classifiers.storage import load_classifier

        return cls(load_classifier(path), layers, pool, temperature)

    def to_bytes(self) -> bytes:
        """Return the classifier as the content of a .skops file."""
        from transferkit.classifiers.storage import dump_classifier

        return dump_classifier(self.classifier)

    def predict_proba(
        self, rows: NDArray[np.floating[Any]], num_classes: int
    ) -> NDArray[np.floating[Any]]:
        """Return probabilities (N, num_classes) of features (N, D).

        A class without training images has probability 0. Probabilities of features that are not
        finite are NaN.
        """
        every = np.full((len(rows), num_classes), np.nan)
        finite = np.flatnonzero(np.isfinite(rows).all(axis=1))
        if not len(finite):
            return every
        known = self.classifier.predict_proba(rows[finite])
        if self.temperature != 1:
            known = at_temperature(known, self.temperature)
        every = every.astype(known.dtype)
        every[finite] = 0
        every[np.ix_(finite, self.classifier.classes_)] = known
        return every


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """A trained network with the names of its classes.

    Attributes:
        network: The network with its weights, in eval mode.
        class_names: Names of the classes, in the order of the outputs.
        training: Record of the training, as JSON values.
        head: The classifier on the network's features, if one was fitted.
        confidence: What its confidence is worth, if that was measured.
        usual: What tells unusual images, if that was measured.
        is_named: Whether the model has names for its classes; else they are the numbers of the
            outputs.

    Example:
        >>> bundle = ModelBundle.load("runs/cats")          # doctest: +SKIP
        >>> bundle.predict_proba(["a.jpg", "b.jpg"]).shape  # doctest: +SKIP
        (2, 5)
    """

    network: Network
    class_names: tuple[str, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    head: FeatureHead | None = None
    confidence: ConfidenceTable | None = None
    usual: UsualImages | None = None
    is_named: bool = True

    @classmethod
    def load(cls, path: str | Path) -> "ModelBundle":
        """Load a model.

        Args:
            path: A run, its model/ folder, or a `local-dir:` or `hf-hub:` name.

        Raises:
            BundleError: When there is no model there, or it is damaged or incompatible.
        """
        name = model_name(path)
        try:
            network = create_network(name)
        except BundleError:
            raise
        except TransferKitError as error:
            raise BundleError(f"{path}: cannot load the model: {error}") from error
        names = tuple(network.config.get("label_names") or ())
        training = network.config.get("transferkit", {})
        if not isinstance(training, dict):
            raise BundleError(f"{path}: transferkit in {CONFIG} must be a table")
        head = _load_head(name, training, len(names)) if "features" in training else None
        is_named = bool(names) or head is not None
        if not is_named:
            names = tuple(map(str, range(network.num_classes)))
        if not names or (head is None and len(names) != network.num_classes):
            raise BundleError(
                f"{path}: names {len(names)} classes for {network.num_classes} outputs; "
                f"expected label_names in {CONFIG}, one per output"
            )
        confidence = _load_confidence(name) if training.get("confidence") else None
        usual = UsualImages.load(_file_of(name, USUAL)) if training.get("usual_images") else None
        bundle = cls(network, names, training, head, confidence, usual, is_named)
        if head:
            _require_fitting(bundle, head, path)
        return bundle

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """The extractor of the classifier's features; of the pooled features without one."""
        if self.head is None:
            return FeatureExtractor(self.network)
        return FeatureExtractor(self.network, self.head.layers, self.head.pool)

    def probabilities(
        self, images: Sequence[ImageSource], compute: ComputeSettings
    ) -> Iterator[Outputs]:
        """Yield class probabilities, and how unusual each image is, batch by batch in order."""
        yield from self.probabilities_in_parts(compute)(images)

    def probabilities_in_parts(self, compute: ComputeSettings) -> PreparedPass:
        """Return the pass that yields what `probabilities` does."""
        if self.head is not None:
            return self._by_classifier(self.head, compute)
        if self.usual is not None:
            return probabilities_and_scores_in_parts(self.network, self.usual, compute)
        return probabilities_in_parts(self.network, compute)

    def _by_classifier(self, head: FeatureHead, compute: ComputeSettings) -> PreparedPass:
        forward = create_pass(features_of(self.extractor), compute)

        def of(rows: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
            values = head.predict_proba(rows, len(self.class_names))
            if self.usual is None:
                return values
            return np.column_stack([values, self.usual(torch.from_numpy(rows)).numpy()])

        def begin(pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.floating[Any]]]:
            read = forward.begin(pixels)
            return lambda: of(read())

        has_scores = self.usual is not None
        return PreparedPass(begin, self.network.preprocessing, compute.reading, has_scores)

    def save(self, folder: Place) -> None:
        """Write the model as `folder`, atomically; an existing folder is replaced.

        Raises:
            OutputError: When it cannot be written, for example because the disk is full.
        """
        state = _separate(self.network.module.state_dict())
        classifier = self.head.to_bytes() if self.head else b""
        size = sum(tensor.nbytes for tensor in state.values()) + len(classifier)
        with whole_folder(folder, last=CONFIG, size=size) as temporary:
            write_json(temporary / CONFIG, self._config())
            safetensors.torch.save_file(state, temporary / WEIGHTS, {"format": "pt"})
            # safetensors makes its files readable by the owner only; follow the umask instead.
            (temporary / WEIGHTS).chmod((temporary / CONFIG).stat().st_mode)
            if self.head:
                (temporary / CLASSIFIER).write_bytes(classifier)
            if self.usual:
                self.usual.save(temporary / USUAL)
            if self.confidence:
                text = json_text(self.confidence.to_record()) + "\n"
                (temporary / CONFIDENCE).write_text(text, encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        network = self.network
        config = {k: v for k, v in network.config.items() if k not in _NOT_SAVED}
        config.update(network.preprocessing.to_config())
        training = dict(self.training)
        if self.head:
            training["features"] = {
                "layers": list(self.head.layers),
                "pool": self.head.pool,
                "temperature": self.head.temperature,
            }
        if self.confidence:
            training["confidence"] = CONFIDENCE
        if self.usual:
            training["usual_images"] = USUAL
        return {
            "architecture": network.name,
            "num_classes": network.num_classes,
            "num_features": network.feature_dim,
            "label_names": list(self.class_names),
            "pretrained_cfg": config,
            "model_args": dict(network.model_args),
            "transferkit": {"version": __version__, **training},
        }

    def predict_proba(self, images: Any) -> NDArray[np.float32]:
        """Return the class probabilities of images.

        Args:
            images: One or N paths, PIL images, arrays and the like; see `as_images`.

        Returns:
            (N, C) float32, columns in the order of `class_names`.

        Raises:
            DataError: When an image cannot be read.
            ImageTypeError: When there is something else among the images.
        """
        images = as_images(images)
        compute = ComputeSettings(self.network.device, Precision.FP32, batch_size=32, workers=1)
        parts = self.probabilities(images, compute)
        table = collect(parts, len(images), len(self.class_names), lambda count: None)
        require_readable(images, table)
        return table.values


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU so that none share memory, which safetensors refuses to save."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in state.items():
        tensor = tensor.cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return separate


def _require_fitting(bundle: ModelBundle, head: FeatureHead, path: str | Path) -> None:
    expected = head.classifier.n_features_in_
    try:
        shape = bundle.extractor.shape
    except TransferKitError as error:
        raise BundleError(f"{path}: cannot compute its features: {error}") from error
    if shape != (expected,):
        raise BundleError(
            f"{path}: its classifier expects {expected} features, its network gives {shape}; "
            "the files do not belong together"
        )


def _load_head(name: str, training: Mapping[str, Any], classes: int) -> FeatureHead:
    """Load the classifier stored beside the weights of `name`."""
    where = f"{name}: features in {CONFIG}"
    try:
        recorded = training["features"]
        layers, pool = tuple(map(str, recorded["layers"])), Pool(recorded["pool"])
        temperature = float(recorded.get("temperature", 1))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{where}: expected layers, pool and temperature ({error})") from error
    path = _file_of(name, CLASSIFIER)
    head = FeatureHead.load(path, layers, pool, temperature)
    if not set(head.classifier.classes_) <= set(range(classes)):
        raise BundleError(
            f"{path}: knows classes beyond the {classes} named in {CONFIG}; the files do not "
            "belong together"
        )
    return head


def _load_confidence(name: str) -> ConfidenceTable:
    """Load what the confidence of the model `name` is worth."""
    path = _file_of(name, CONFIDENCE)
    try:
        return ConfidenceTable.from_record(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path}: cannot be read ({reason}); train the model again") from error


def _file_of(name: str, file: str) -> Path:
    """Return a file of the model `name`, downloaded if necessary."""
    if name.startswith(HUB_PREFIX):
        repository = name.removeprefix(HUB_PREFIX)
        advice = "give the folder of a model on this machine"
        return hub_file(repository, (file,), advice=lambda: advice)
    return Path(name.removeprefix(LOCAL_PREFIX), file)


def model_name(path: str | Path) -> str:
    """Return the `--backbone` name of the network in a run, a model/ folder, or a named model.

    Raises:
        BundleError: When there is no model there.
    """
    name = str(path)
    if name.startswith((LOCAL_PREFIX, HUB_PREFIX)):
        return name
    return f"{LOCAL_PREFIX}{model_folder(Path(local_model(name)))}"
