"""Quantize a converted network to 8-bit integers, by ONNX Runtime. Imports no torch."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.engines import Engine
from transferkit.engines.runtimes import require_installed
from transferkit.errors import EngineError

_QUIET = 4
"""Severity from which ONNX Runtime logs: fatal errors only."""

_LAYERS = ("Conv", "Gemm", "MatMul")
"""Operators that multiply by weights."""

_BETWEEN = ("Add", "Clip", "Relu")
"""Operators that an engine computes together with a convolution, if their outputs have 8 bits."""


def quantize(content: bytes, batches: Iterable[NDArray[np.uint8]]) -> bytes:
    """Return a converted network with weights and activations of 8 bits.

    Args:
        content: An ONNX file whose input is pixels (N, H, W, 3) uint8.
        batches: Pixels (B, H, W, 3) uint8 like those that the network will see. Each batch is read
            when it is needed and then dropped.

    Raises:
        EngineError: When ONNX Runtime is not installed or cannot quantize the network.
    """
    require_installed(Engine.ONNXRUNTIME)
    calibration = _Calibration(batches)
    try:
        with TemporaryDirectory() as folder, _unlogged():
            return _quantize(content, calibration, Path(folder))
    except Exception as error:
        if error is calibration.error:
            raise
        # The library raises types of its own, and many of python's.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EngineError(f"it cannot be quantized: {reason}") from error


class _Calibration:
    """Batches as ONNX Runtime's calibration reads them; remembers the error that ended them."""

    def __init__(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        self._batches = iter(batches)
        self.input = ""
        self.error: Exception | None = None

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        try:
            return {self.input: next(self._batches)}
        except StopIteration:
            return None
        except Exception as error:
            self.error = error
            raise


@contextmanager
def _unlogged() -> Iterator[None]:
    """Drop what is logged on the root logger itself, as ONNX Runtime's quantization does."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    handler = logging.NullHandler()  # without any, logging would install one for good
    logging.root.addHandler(handler)
    logging.root.addFilter(drop)
    try:
        yield
    finally:
        logging.root.removeFilter(drop)
        logging.root.removeHandler(handler)


def _quantize(content: bytes, calibration: _Calibration, folder: Path) -> bytes:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    original = onnx.load_model_from_string(content)
    model = _optimized(_with_shapes_folded(original), folder)
    calibration.input = model.graph.input[0].name
    onnx.save_model(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        calibration,
        activation_type=QuantType.QUInt8,  # CPUs multiply unsigned activations by signed weights
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=_quantized_operators(model),
        nodes_to_exclude=_left_in_float(model),
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},  # as logits
    )
    model = onnx.load_model(folder / "int8.onnx")
    for field in ("metadata_props", "opset_import"):
        model.ClearField(field)
        getattr(model, field).extend(getattr(original, field))
    quantized: bytes = model.SerializeToString()
    return quantized


def _with_shapes_folded(original: Any) -> Any:
    """Return a model in which all that depends on shapes alone, not on N, is constant.

    Networks in TensorFlow's style compute their padding from shapes. The quantizer would round it,
    and a constant one becomes part of the convolution, which doubles the speed.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(original)
    graph, known = model.graph, {"", *(tensor.name for tensor in original.graph.initializer)}
    nodes = []
    for node in graph.node:
        if node.op_type == "Shape" or known.issuperset(node.input):
            known.update(node.output)
            nodes.append(node)
    first, second = (_values(original, nodes, count) for count in (1, 2))
    folded = {
        name
        for node in nodes
        if all(np.array_equal(first[name], second[name]) for name in node.output)
        for name in node.output
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(first[n], n) for n in sorted(folded))
    kept = [node for node in graph.node if not folded.issuperset(node.output)]
    graph.ClearField("node")
    graph.node.extend(kept)
    return model


def _values(model: Any, nodes: Iterable[Any], count: int) -> dict[str, NDArray[Any]]:
    """Return the outputs of nodes that depend on shapes alone, for a number of black images."""
    import onnx

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.ClearField("output")
    names = [name for node in nodes for name in node.output]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = _session(probe)
    (pixels,) = session.get_inputs()
    black = np.zeros((count, *pixels.shape[1:]), dtype=np.uint8)
    return dict(zip(names, session.run(names, {pixels.name: black}), strict=True))


def _optimized(model: Any, folder: Path) -> Any:
    """Return a model after ONNX Runtime's first level of optimization, with inferred shapes."""
    import onnx

    file = folder / "optimized.onnx"
    _session(model, optimized_model_filepath=str(file))
    return onnx.shape_inference.infer_shapes(onnx.load_model(file))


def _session(model: Any, **options: Any) -> Any:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _QUIET
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )


def _quantized_operators(model: Any) -> list[str]:
    """Return the types of the operators to quantize."""
    if any(node.op_type == "LayerNormalization" for node in model.graph.node):
        # The sums of a transformer have a few large channels, which 8 bits for all would drown.
        return list(_LAYERS)
    return [*_LAYERS, *_BETWEEN]


def _left_in_float(model: Any) -> list[str]:
    """Return the names of nodes that are not quantized, though others of their type are.

    The first convolution has few channels, so 8 bits gain it little. Bright pixels are the largest
    activations and come side by side, so its sums are also the first to overflow the 16 bits that
    CPUs without VNNI have for them. Only a second output needs the rest.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    first = [node for node in model.graph.node if node.op_type == "Conv"][:1]
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    attention = [node for node in products if weights.isdisjoint(node.input)]
    beside = _needed_beside_first_output(model)
    return [node.name for node in (*first, *attention, *beside)]


def _needed_beside_first_output(model: Any) -> list[Any]:
    """Return the nodes that the first output of a model does not need."""
    needed, kept = {model.graph.output[0].name}, []
    for node in reversed(model.graph.node):  # from the outputs to the inputs
        if needed.isdisjoint(node.output):
            kept.append(node)
        else:
            needed.update(node.input)
    return kept
