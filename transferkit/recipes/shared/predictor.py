"""What classifies images for a command: a network in torch, or an exported model without it.

Importing this module does not import torch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from transferkit.confidence import ConfidenceTable
from transferkit.data.images import ImageSource
from transferkit.devices import USUAL_BATCH_SIZE, Device, Precision, may_have_gpu
from transferkit.engines import Engine
from transferkit.engines.onnx_file import SUFFIX, read_onnx
from transferkit.engines.runtimes import is_installed
from transferkit.errors import OptionError
from transferkit.exported_model import ExportedModel
from transferkit.files import file_digest
from transferkit.inference import Outputs, PreparedPass, Reading
from transferkit.models import HUB_PREFIX, LOCAL_PREFIX
from transferkit.options.evaluate import EvaluateOptions
from transferkit.options.parsers import AUTO
from transferkit.options.predict import PredictOptions
from transferkit.options.serve import ServeOptions
from transferkit.recipes.shared.inputs import reading_threads
from transferkit.reporter import Reporter
from transferkit.run.model_folder import EXPORTED, WEIGHTS, model_folder
from transferkit.run.stored_model import local_model

if TYPE_CHECKING:
    from transferkit.bundle import ModelBundle

PredictorOptions = PredictOptions | EvaluateOptions | ServeOptions
"""Options that name what classifies images."""


@dataclass(frozen=True)
class Predictor:
    """What classifies images.

    Attributes:
        class_names: Names of the classes, in the order of the probabilities.
        backbone: Name of the network.
        prepared: Returns the pass that yields class probabilities, which the first call prepares.
        confidence: What its confidence is worth, if that was measured.
        usual_threshold: Images with a higher score are unusual; None for a model without scores.
        bundle: The network, if torch computes it.
    """

    class_names: Sequence[str]
    backbone: str
    prepared: Callable[[], PreparedPass]
    confidence: ConfidenceTable | None
    usual_threshold: float | None
    bundle: "ModelBundle | None" = None

    def probabilities(self, images: Sequence[ImageSource]) -> Iterator[Outputs]:
        """Yield the class probabilities of images, batch by batch in order."""
        return self.prepared()(images)


def open_predictor(options: PredictorOptions, reporter: Reporter, count: int) -> Predictor:
    """Return what classifies the images of a command.

    An exported model runs without torch. Where a run holds one, it takes the network's place on
    the CPU.

    Args:
        options: The model, the engine and how to compute.
        reporter: Receives notices about the model.
        count: Number of images.

    Raises:
        BundleError: When the model cannot be loaded.
        WeightsError: When the backbone's weights are not available.
        OptionError: When the options ask for what the model or this machine cannot do.
        EngineError: When the engine is not installed or cannot run the model.
    """
    exported = _exported(options, reporter)
    if exported is None:
        return _in_torch(options, reporter, count)
    # Whoever names a file expects the numbers that every other runtime computes of it.
    is_named = str(options.model).endswith(SUFFIX)
    is_open = options.precision is Precision.AUTO
    precision = Precision.FP32 if is_named and is_open else options.precision
    model = ExportedModel.load(exported, engine=options.engine, precision=precision)
    size = USUAL_BATCH_SIZE if options.batch_size == AUTO else options.batch_size
    reading = Reading(size, reading_threads(options), options.allow_truncated, options.tta)
    return Predictor(
        model.class_names,
        model.backbone,
        lambda: model.probabilities_in_parts(reading),
        model.confidence,
        model.usual_threshold,
    )


def _in_torch(options: PredictorOptions, reporter: Reporter, count: int) -> Predictor:
    from transferkit.recipes.shared.compute_settings import resolve_compute, with_fitting_batches
    from transferkit.recipes.shared.load_model import load_bundle, load_model

    if isinstance(options, PredictOptions):
        bundle = load_model(options, reporter)
    else:
        bundle = load_bundle(options.model, reporter)
    compute = resolve_compute(
        options, bundle.network, reporter, engine=options.engine, images=count
    )
    compute = with_fitting_batches(options, bundle.network, compute)
    compute = replace(compute, mirrors=options.tta)
    return Predictor(
        bundle.class_names,
        bundle.network.name,
        # Prepared with the first images, and once for all parts of a table.
        cache(lambda: bundle.probabilities_in_parts(compute)),
        bundle.confidence,
        None if bundle.usual is None else bundle.usual.threshold,
        bundle,
    )


def _exported(options: PredictorOptions, reporter: Reporter) -> Path | None:
    """Return the exported model that the options name, or that the named run holds."""
    if not options.model or options.model.startswith((LOCAL_PREFIX, HUB_PREFIX)):
        return None
    model = Path(local_model(options.model))
    if model.suffix == SUFFIX:
        if options.device not in (Device.AUTO, Device.CPU):
            raise OptionError(
                f"--device: an exported model runs on the CPU, got {options.device}; use auto"
            )
        return model
    in_torch = options.engine is Engine.TORCH or options.device not in (Device.AUTO, Device.CPU)
    if in_torch or (options.device is Device.AUTO and may_have_gpu()):
        return None
    folder = model_folder(model)
    if not (folder / EXPORTED).is_file():
        return None
    file = read_onnx(folder / EXPORTED)
    if not file.is_standard and not is_installed(Engine.ONNXRUNTIME):
        return None  # only ONNX Runtime runs a classifier of scikit-learn, and torch does as well
    if file.description.weights_sha256 != file_digest(folder / WEIGHTS):
        reporter.notice(
            f"{folder / EXPORTED}: was not made from {WEIGHTS} beside it and is not used; write it "
            "again with transferkit export --overwrite"
        )
        return None
    return folder / EXPORTED
