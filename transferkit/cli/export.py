"""`transferkit export`."""

from typing import TYPE_CHECKING

from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.export import ExportOptions

if TYPE_CHECKING:
    from transferkit.recipes.export import Exported


@takes(ExportOptions)
def export(options: ExportOptions, invocation: Invocation) -> None:
    """Write a trained model for other programs, from pixels to probabilities in one file.

    Examples:
        transferkit export runs/photos
        transferkit export runs/photos -o photos.onnx
        transferkit export runs/photos -o small.onnx --quantize int8
        transferkit export runs/photos --to hf-hub:me/photos

    Class names and preprocessing are in the file's metadata. It is compared with predict on the
    run's validation images, and written only if no label differs. Without -o it becomes part of
    the run, and predict -m RUN then needs no torch and answers in a fraction of the time. With --to
    the model's folder goes to a model hub instead, where predict -m hf-hub:OWNER/NAME finds it.
    """
    from transferkit.recipes.export import export as recipe
    from transferkit.recipes.exporting.upload import Uploaded

    written = recipe(options, invocation.reporter)
    if isinstance(written, Uploaded):
        print(f"{written.address}: {written.size / 1e6:.1f} MB, {written.url}")
        return
    print(f"{written.output}: {written.size / 1e6:.1f} MB")
    for line in _lines(written):
        print(line)


def _lines(written: "Exported") -> list[str]:
    lines = [
        f"{parity.by}: {parity.labels or 'no'} label of {parity.images} differs from predict, "
        f"probabilities by {parity.mean:.1e} on average and {parity.largest:.1e} at most"
        for parity in written.parity
    ]
    if written.why_not:
        lines.append(f"not compared with predict: {written.why_not}")
    if written.quantized:
        cost = written.quantized
        lines.append(
            f"int8: {cost.size / written.size:.1f} times smaller and {cost.speed:.1f} times as "
            f"fast as fp32, accuracy {cost.gain.value:+.3f} ({cost.gain.low:+.3f} to "
            f"{cost.gain.high:+.3f}) on {cost.images} validation images"
        )
    return lines
