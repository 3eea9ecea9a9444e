"""Export a trained model for other programs, and compare it with what `predict` computes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import ModelBundle
from transferkit.data.images import ImageFile
from transferkit.data.loader import iterate_batches
from transferkit.data.transforms import eval_transform
from transferkit.devices import Precision, default_workers
from transferkit.engines import Engine, ExportFormat, Quantize
from transferkit.engines.onnx_file import Description
from transferkit.engines.runtimes import describe_engine, is_installed, open_runtime
from transferkit.errors import OptionError
from transferkit.export_formats import open_exported, save_openvino, save_torch, to_onnx
from transferkit.files import file_digest, require_new, require_place, whole_files
from transferkit.inference import Collected
from transferkit.intervals import Estimate, difference
from transferkit.options.export import ExportOptions
from transferkit.recipes.exporting.parity import Comparison, Parity, compare
from transferkit.recipes.exporting.run_images import RunImages, run_images
from transferkit.recipes.exporting.upload import Uploaded, upload
from transferkit.reporter import SILENT, Reporter
from transferkit.run.model_folder import EXPORTED, WEIGHTS, model_folder

_BATCH, _TIMED = 32, 5
"""Images per batch of the calibration and the timing, and batches that are timed."""


@dataclass(frozen=True)
class Quantized:
    """What 8-bit numbers gain and cost.

    Attributes:
        size: Bytes of the file in fp32.
        gain: The accuracy minus that of fp32, paired by image, with its 95 % interval.
        images: Number of validation images.
        speed: Images per second in OpenVINO, as a multiple of fp32's.
    """

    size: int
    gain: Estimate
    images: int
    speed: float


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        output: The file.
        size: Bytes of all files that were written.
        parity: How the model compares with `predict`, one entry per engine that can run it, before
            it was quantized; empty where there are no images to compare on.
        why_not: Why nothing was compared; empty if something was.
        quantized: What 8-bit numbers gain and cost; None without them.
    """

    output: Path
    size: int
    parity: tuple[Parity, ...]
    why_not: str
    quantized: Quantized | None


def export(options: ExportOptions, reporter: Reporter = SILENT) -> Exported | Uploaded:
    """Write a trained model for other programs, or upload it to a model hub.

    The file maps pixels to probabilities: normalisation and softmax are part of it, and class names
    and preprocessing are in its metadata. It is compared with what `predict` computes in fp32 of
    the run's validation images, and written only if no label differs.

    Raises:
        BundleError: When the model cannot be loaded.
        EngineError: When it cannot be converted, or the result differs.
        OptionError: When the model cannot have the format, or 8-bit numbers cost too much accuracy.
        OutputError: When the file or the repository exists or cannot be written.
    """
    if options.to is not None:
        return upload(options.run, options.to, private=options.private, replace=options.overwrite)
    return _write_file(options, reporter)


def _write_file(options: ExportOptions, reporter: Reporter) -> Exported:
    home = model_folder(options.run)
    output = options.output or home / EXPORTED
    require_new(output, overwrite=options.overwrite)
    require_place(output)
    bundle = ModelBundle.load(options.run)
    images = run_images(options.run, bundle.class_names, options.data)
    network = bundle.network
    description = Description(
        bundle.class_names,
        network.preprocessing,
        network.name,
        file_digest(home / WEIGHTS),
        bundle.confidence,
        None if bundle.usual is None else bundle.usual.threshold,
    )
    comparison = Comparison(bundle, images.val, options.workers or default_workers(), reporter)
    expected = comparison.predicted()
    with whole_files(output.parent) as folder:
        file = folder / output.name
        _write(bundle, description, options.resolved_format, file)
        parity = _parity(comparison, expected, file, options.resolved_format)
        quantized = None
        if options.quantize is Quantize.INT8:
            quantized = _quantize(comparison, expected, images, options, file)
        size = sum(entry.stat().st_size for entry in folder.iterdir())
    return Exported(output, size, parity, images.why_not, quantized)


def _write(bundle: ModelBundle, description: Description, kind: ExportFormat, file: Path) -> None:
    match kind:
        case ExportFormat.ONNX:
            file.write_bytes(to_onnx(bundle, description))
        case ExportFormat.OPENVINO:
            if bundle.head is not None:
                raise OptionError(
                    "--format: openvino is for networks; a classifier of scikit-learn goes along "
                    "in onnx"
                )
            save_openvino(to_onnx(bundle, description), description, file)
        case ExportFormat.TORCH:
            save_torch(bundle, description, file)


def _parity(
    comparison: Comparison, expected: Collected, file: Path, kind: ExportFormat
) -> tuple[Parity, ...]:
    """Compare the exported file with the model on every engine that can run it.

    Raises:
        EngineError: When it differs, or no engine can open it.
    """
    found = []
    for engine in _engines_for(kind, has_head=comparison.bundle.head is not None):
        by = describe_engine(engine)
        classified = comparison.classified(open_exported(file, kind, engine), f"running {by}")
        if parity := compare(expected, classified, by):
            parity.require_equal()
            found.append(parity)
    return tuple(found)


def _engines_for(kind: ExportFormat, *, has_head: bool) -> Iterator[Engine]:
    match kind:
        case ExportFormat.TORCH:
            yield Engine.TORCH
        case ExportFormat.OPENVINO:
            yield Engine.OPENVINO
        case ExportFormat.ONNX:
            # OpenVINO has none of the operators of scikit-learn's classifiers.
            if not has_head:
                yield Engine.OPENVINO
            if is_installed(Engine.ONNXRUNTIME):
                yield Engine.ONNXRUNTIME


def _quantize(
    comparison: Comparison,
    expected: Collected,
    images: RunImages,
    options: ExportOptions,
    file: Path,
) -> Quantized:
    """Replace an exported file by one with 8-bit numbers, and measure what they cost.

    Raises:
        OptionError: When they cost more accuracy than the options accept, or cannot be measured.
        EngineError: When the model cannot be quantized.
    """
    from transferkit.engines.quantization import quantize

    if comparison.bundle.head is not None:
        raise OptionError("--quantize: int8 is for networks, and this run fitted a classifier")
    if images.why_not or not images.train:
        raise OptionError(
            "--quantize: int8 needs training images to calibrate on and validation images to "
            f"measure the loss on, and {images.why_not or 'the training images are missing'}"
        )
    exact = file.read_bytes()
    content = quantize(exact, _pixels(comparison, images.train))
    runtimes = [open_runtime(Engine.OPENVINO, c, Precision.FP32) for c in (exact, content)]
    classified = comparison.classified(runtimes[1], "running it in int8")
    readable = expected.readable & classified.readable
    before, after = (
        (table.values[readable].argmax(axis=1) == images.labels[readable])[None]
        for table in (expected, classified)
    )
    gain = difference(after, before)
    if -gain.value > options.max_drop:
        raise OptionError(
            f"--max-drop: int8 loses {-gain.value:.3f} of the accuracy on {before.size} validation "
            f"images ({-gain.high:.3f} to {-gain.low:.3f}), more than {options.max_drop:g}; "
            "nothing was written"
        )
    file.write_bytes(content)
    pixels = next(_pixels(comparison, images.val))
    seconds = [_seconds(runtime, pixels) for runtime in runtimes]
    return Quantized(len(exact), gain, before.size, seconds[0] / seconds[1])


def _pixels(comparison: Comparison, files: Sequence[ImageFile]) -> Iterator[NDArray[np.uint8]]:
    transform = eval_transform(comparison.bundle.network.preprocessing)
    for batch in iterate_batches(files, transform, batch_size=_BATCH, workers=comparison.workers):
        if len(batch.rows):
            yield batch.pixels


def _seconds(run: object, pixels: NDArray[np.uint8]) -> float:
    """Return the median seconds of a batch."""
    assert callable(run)
    spent = []
    for _ in range(_TIMED + 1):
        started = time.perf_counter()
        run(pixels)
        spent.append(time.perf_counter() - started)
    return median(spent[1:])  # the first one warms up
