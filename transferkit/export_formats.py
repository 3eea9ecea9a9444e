"""Write a trained model in the formats of other programs, and read it back to compare."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.bundle import FeatureHead, ModelBundle
from transferkit.devices import Precision
from transferkit.engines import Engine, ExportFormat
from transferkit.engines.conversion import SCORES, VALUES, FromPixels, convert, require_equal
from transferkit.engines.onnx_file import Description, described
from transferkit.engines.private_openvino import import_openvino
from transferkit.engines.runtimes import open_runtime
from transferkit.errors import EngineError, OptionError
from transferkit.forward_pass import AsModule, features_of, logits_of
from transferkit.models.usual_images import UsualImages

PROBABILITIES = "probabilities"
"""Name of an exported model's output; how unusual an image is follows as `SCORES`."""

Classify = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pixels (B, H, W, 3) uint8 to probabilities (B, C), with scores as column C if it has any."""


def to_onnx(bundle: ModelBundle, description: Description) -> bytes:
    """Return a model as the content of an ONNX file, from pixels to probabilities.

    Raises:
        EngineError: When it cannot be converted, or the result differs.
    """
    _, *size = bundle.network.preprocessing.input_size
    if bundle.head is None:
        module = _probabilities_of(bundle)
        content = convert(module, size, PROBABILITIES, *_score_names(bundle))
        require_equal(content, module, size, Engine.OPENVINO, Precision.FP32)
        return described(content, description)
    trunk = FromPixels(_module_of(bundle), bundle.network.preprocessing)
    content = convert(trunk, size, VALUES, *_score_names(bundle))
    return described(_with_head(content, bundle.head, bundle), description)


def save_openvino(content: bytes, description: Description, file: Path) -> None:
    """Write an ONNX model as OpenVINO's .xml, and its weights beside it as .bin.

    Raises:
        EngineError: When OpenVINO cannot read the model.
    """
    openvino = import_openvino()
    try:
        model = openvino.Core().read_model(content)
    except RuntimeError as error:
        raise EngineError(f"openvino cannot read it: {' '.join(str(error).split())}") from error
    model.set_rt_info(description.to_text(), ["transferkit"])
    openvino.save_model(model, file, compress_to_fp16=False)


def save_torch(bundle: ModelBundle, description: Description, file: Path) -> None:
    """Write a network as a program of torch.export, .pt2.

    Raises:
        EngineError: When torch cannot export it.
        OptionError: When the model is no network alone.
    """
    if bundle.head is not None:
        raise OptionError(
            "--format: torch is for networks; a classifier of scikit-learn goes along in onnx"
        )
    module = _probabilities_of(bundle)
    _, *size = bundle.network.preprocessing.input_size
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)
    try:
        program = torch.export.export(
            module, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},)
        )
    except Exception as error:
        # Control flow that depends on the data fails in as many ways as there are models.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise EngineError(f"torch cannot export it: {reason[:200]}") from error
    torch.export.save(program, file, extra_files={"transferkit.json": description.to_text()})


def open_exported(file: Path, kind: ExportFormat, engine: Engine) -> Classify:
    """Return an exported file, ready to classify pixels.

    Args:
        file: The file.
        kind: Its format.
        engine: What runs an ONNX file.

    Raises:
        EngineError: When it cannot be opened.
    """
    if kind is not ExportFormat.TORCH:
        used = Engine.OPENVINO if kind is ExportFormat.OPENVINO else engine
        return open_runtime(used, file, Precision.FP32)
    module = torch.export.load(file).module()

    @torch.no_grad()
    def classify(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = module(torch.from_numpy(pixels))
        probabilities, *scores = values if isinstance(values, tuple) else (values,)
        columns = [probabilities, *(column[:, None] for column in scores)]
        array: NDArray[np.float32] = torch.cat(columns, dim=1).numpy()
        return array

    return classify


class _Scored(nn.Module):
    """A model's logits, or the features of its classifier, and how unusual each image is."""

    def __init__(self, bundle: ModelBundle, usual: UsualImages) -> None:
        super().__init__()
        self.layers, self.usual = bundle.network.module, usual
        self._bundle = bundle

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute values (B, ...) and scores (B,) of normalised images."""
        if self._bundle.head is not None:
            values = self._bundle.extractor(images)
            return values, self.usual(values)
        parts = self._bundle.network.forward_parts(images, head=True)
        assert parts.logits is not None
        return parts.logits, self.usual(parts.features)


def _module_of(bundle: ModelBundle) -> nn.Module:
    if bundle.usual is not None:
        return _Scored(bundle, bundle.usual)
    return AsModule(
        logits_of(bundle.network) if bundle.head is None else features_of(bundle.extractor)
    )


def _score_names(bundle: ModelBundle) -> tuple[str, ...]:
    return () if bundle.usual is None else (SCORES,)


def _probabilities_of(bundle: ModelBundle) -> FromPixels:
    return FromPixels(_module_of(bundle), bundle.network.preprocessing, softmax=True)


def _with_head(content: bytes, head: FeatureHead, bundle: ModelBundle) -> bytes:
    """Return a feature extractor and the classifier on its features as one model."""
    import onnx

    from transferkit.classifiers.conversion_to_onnx import classifier_to_onnx

    (width,) = bundle.extractor.shape
    trunk: Any = onnx.load_model_from_string(content)
    classifier = classifier_to_onnx(
        head.classifier, width, len(bundle.class_names), head.temperature
    )
    trunk.ir_version = classifier.ir_version = max(trunk.ir_version, classifier.ir_version)
    # Both parts may use the same inner names.
    classifier = onnx.compose.add_prefix(classifier, "classifier_", rename_outputs=False)
    merged = onnx.compose.merge_models(trunk, classifier, io_map=[(VALUES, "classifier_features")])
    # The trunk's own output comes first, and whoever runs the file expects the probabilities there.
    outputs = sorted(merged.graph.output, key=lambda output: output.name == SCORES)
    merged.graph.ClearField("output")
    merged.graph.output.extend(outputs)
    whole: bytes = merged.SerializeToString()
    return whole
