"""Run a network that was converted to ONNX: pixels in, values out. Imports no torch.

Images are computed in blocks of a fixed size, several blocks at once, one per core. Each row is
therefore the result of the same instructions, whatever the batch and its size.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transferkit.devices import Precision, available_cores
from transferkit.engines import DISTRIBUTIONS, Engine
from transferkit.engines.private_openvino import import_openvino
from transferkit.errors import EngineError
from transferkit.processes import started_processes

BLOCK = 4
"""Images per block. Measured on two cores: 1 is up to 20 % slower, 16 no faster."""

Model = bytes | Path
"""The content or the path of an ONNX file."""


class Runtime(Protocol):
    """A network, ready to run."""

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute values.

        Args:
            pixels: (B, H, W, 3) uint8 of the network's input size.

        Returns:
            (B, ...) float32.
        """


def is_installed(engine: Engine) -> bool:
    """Return whether the package of an engine is installed."""
    return engine is Engine.TORCH or find_spec(DISTRIBUTIONS[engine]) is not None


def require_installed(engine: Engine) -> None:
    """Check that the package of an engine is installed.

    Raises:
        EngineError: When it is not.
    """
    if not is_installed(engine):
        extra = "" if engine is Engine.OPENVINO else f", or transferkit[{DISTRIBUTIONS[engine]}]"
        raise EngineError(
            f"{engine} is not installed; install the package {DISTRIBUTIONS[engine]}{extra}"
        )


def describe_engine(engine: Engine) -> str:
    """Return an engine's name and version."""
    return f"{engine} {version(DISTRIBUTIONS.get(engine, str(engine)))}"


def open_runtime(engine: Engine, model: Model, precision: Precision) -> Runtime:
    """Prepare a converted network.

    Args:
        engine: OpenVINO or ONNX Runtime.
        model: An ONNX file whose first input is pixels (N, H, W, 3) uint8.
        precision: fp32, or bf16 with OpenVINO.

    Raises:
        EngineError: When the engine is not installed, or cannot run the file.
    """
    require_installed(engine)
    kind = _OpenVino if engine is Engine.OPENVINO else _OnnxRuntime
    try:
        return kind(model, precision)
    except Exception as error:
        # The engines raise their own types, and many of python's, on files that they cannot run.
        raise EngineError(f"{engine} cannot run it: {one_line(error)}") from error


def has_fast_bf16() -> bool:
    """Return whether OpenVINO computes in bfloat16 on this CPU without emulating it."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


def one_line(error: Exception) -> str:
    """Return an engine's message, shortened to one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _blocks(pixels: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (start, block); the last block is filled up with black images."""
    for start in range(0, len(pixels), BLOCK):
        block = np.ascontiguousarray(pixels[start : start + BLOCK])
        if len(block) < BLOCK:
            fill = np.zeros((BLOCK - len(block), *block.shape[1:]), dtype=np.uint8)
            block = np.concatenate([block, fill])
        yield start, block


def _side_by_side(outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return one output as it is, and several as the columns of one table."""
    if len(outputs) == 1:
        return outputs[0]
    return np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)


@cache
def _core() -> Any:
    """Return OpenVINO's core; one for the process, which keeps its plugin and its threads alive."""
    return import_openvino().Core()


class _OpenVino:
    def __init__(self, model: Model, precision: Precision) -> None:
        self._tensor, core = import_openvino().Tensor, _core()
        network = core.read_model(model if isinstance(model, bytes) else str(model))
        _, *size = network.inputs[0].partial_shape
        network.reshape({network.inputs[0]: [BLOCK, *size]})
        cores = available_cores()
        compiled = core.compile_model(
            network,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision is Precision.BF16 else "f32",
                "INFERENCE_NUM_THREADS": cores,
                "NUM_STREAMS": cores,
                # Several processes would all choose the same cores.
                "ENABLE_CPU_PINNING": not started_processes().are_several,
            },
        )
        self._compiled = compiled  # its requests do not keep it alive
        self._requests = [compiled.create_infer_request() for _ in range(cores)]
        shapes = [tuple(output.shape)[1:] for output in compiled.outputs]
        self._shape = shapes[0] if len(shapes) == 1 else (sum(map(prod, shapes)),)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = np.empty((len(pixels), *self._shape), dtype=np.float32)
        running: list[tuple[Any, int, NDArray[np.uint8]]] = []
        try:
            for number, (start, block) in enumerate(_blocks(pixels)):
                request = self._requests[number % len(self._requests)]
                if len(running) == len(self._requests):
                    self._collect(*running[0][:2], values)
                    running.pop(0)
                request.set_input_tensor(self._tensor(block, shared_memory=True))
                running.append((request, start, block))  # a request does not keep its block alive
                request.start_async()
            while running:
                self._collect(*running[0][:2], values)
                running.pop(0)
        finally:
            # After Ctrl-C, requests must not read blocks that are gone.
            for request, _, _ in running:
                request.wait()
        return values

    def _collect(self, request: Any, start: int, values: NDArray[np.float32]) -> None:
        request.wait()
        rows = values[start : start + BLOCK]
        outputs = [tensor.data for tensor in request.output_tensors]
        rows[:] = _side_by_side(outputs)[: len(rows)]


class _OnnxRuntime:
    def __init__(self, model: Model, precision: Precision) -> None:
        import onnxruntime

        if precision is not Precision.FP32:
            raise ValueError(f"it computes in fp32 only, not in {precision}")
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
        )
        self._input = self._session.get_inputs()[0].name
        self._threads = ThreadPoolExecutor(available_cores())

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        def run(block: NDArray[np.uint8]) -> NDArray[np.float32]:
            return _side_by_side(self._session.run(None, {self._input: block}))

        parts = self._threads.map(run, (block for _, block in _blocks(pixels)))
        return np.concatenate(list(parts))[: len(pixels)]
