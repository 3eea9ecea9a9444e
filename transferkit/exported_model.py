"""A model that was exported to ONNX, ready to classify images. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transferkit.confidence import ConfidenceTable
from transferkit.data.preprocessing import Preprocessing
from transferkit.devices import Precision
from transferkit.engines import Engine
from transferkit.engines.onnx_file import OnnxFile, read_onnx
from transferkit.engines.runtimes import (
    Runtime,
    has_fast_bf16,
    is_installed,
    one_line,
    open_runtime,
)
from transferkit.errors import BundleError, EngineError, OptionError
from transferkit.inference import PreparedPass, Reading, at_once


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """An exported model.

    Attributes:
        class_names: Names of the classes, in the order of the outputs.
        preprocessing: What it expects of its pixels.
        runtime: Pixels to probabilities.
        backbone: Name of the network.
        confidence: What its confidence is worth, if that was measured.
        usual_threshold: Images with a higher score are unusual; None for a model without scores.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    runtime: Runtime
    backbone: str
    confidence: ConfidenceTable | None = None
    usual_threshold: float | None = None

    @classmethod
    def load(
        cls, path: Path, *, engine: Engine = Engine.AUTO, precision: Precision = Precision.FP32
    ) -> "ExportedModel":
        """Open an exported model.

        Args:
            path: The ONNX file.
            engine: `auto` is OpenVINO, or ONNX Runtime for a file that OpenVINO cannot run.
            precision: `auto` is bf16 where the CPU has it.

        Raises:
            BundleError: When it is damaged, or no engine can run it.
            EngineError: When the engine it needs is not installed.
            OptionError: When the engine cannot compute in the precision.
        """
        file = read_onnx(path)
        engine = _engine_for(file, engine)
        precision = _precision_for(engine, precision)
        about = file.description
        names, preprocessing = about.class_names, about.preprocessing
        width = len(names) + (about.usual_threshold is not None)
        _, *size = preprocessing.input_size
        try:
            runtime = open_runtime(engine, path, precision)
            shape = runtime(np.zeros((1, *size, 3), dtype=np.uint8)).shape[1:]
        except EngineError as error:
            raise EngineError(f"{path}: {error}") from error
        except Exception as error:
            # Engines find some contradictions in a file only when they run it.
            raise EngineError(f"{path}: {engine} cannot run it: {one_line(error)}") from error
        if shape != (width,):
            raise BundleError(
                f"{path}: names {len(names)} classes and gives values of the shape {shape}; write "
                "it again with transferkit export"
            )
        return cls(
            names, preprocessing, runtime, about.backbone, about.confidence, about.usual_threshold
        )

    def probabilities_in_parts(self, reading: Reading) -> PreparedPass:
        """Return the pass that yields class probabilities, and how unusual each image is."""
        has_scores = self.usual_threshold is not None
        return PreparedPass(at_once(self.runtime), self.preprocessing, reading, has_scores)


def _engine_for(file: OnnxFile, engine: Engine) -> Engine:
    if engine is Engine.TORCH:
        raise OptionError(f"--engine: torch cannot run {file.path}; leave the option out")
    if engine is not Engine.AUTO:
        return engine
    can_openvino = file.is_standard and is_installed(Engine.OPENVINO)
    return Engine.OPENVINO if can_openvino else Engine.ONNXRUNTIME


def _precision_for(engine: Engine, precision: Precision) -> Precision:
    if precision is Precision.AUTO:
        is_fast = engine is Engine.OPENVINO and has_fast_bf16()
        return Precision.BF16 if is_fast else Precision.FP32
    able = (Precision.FP32, Precision.BF16) if engine is Engine.OPENVINO else (Precision.FP32,)
    if precision not in able:
        raise OptionError(f"--precision: {engine} computes in {' or '.join(able)}, got {precision}")
    return precision
