"""Convert a network to ONNX: pixels in, values out."""

import warnings
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from torch import Tensor, nn

from transferkit.data.normalization import normalize
from transferkit.data.preprocessing import Preprocessing
from transferkit.devices import Precision, autocast
from transferkit.engines import Engine
from transferkit.engines.runtimes import BLOCK, open_runtime
from transferkit.errors import EngineError

OPSET = 17
"""Version of ONNX's operators; every runtime of the last years knows them."""

PIXELS, VALUES, SCORES = "pixels", "values", "unusual_score"
"""Names of the input, the output, and the second output of a network that has one."""

TOLERANCE = 1e-5
"""Largest accepted distance of a converted network's row from torch's, relative to the row."""

_TRIED = BLOCK + 1
"""Images that a converted network is tried with: more than one block."""


class FromPixels(nn.Module):
    """A network with its normalisation in front, and a softmax behind it if asked for.

    Args:
        module: Normalised images (B, C, H, W) to values (B, ...), or to values and scores (B,).
        preprocessing: Its normalisation.
        softmax: Whether the values are logits, of which probabilities are made.
    """

    def __init__(
        self, module: nn.Module, preprocessing: Preprocessing, *, softmax: bool = False
    ) -> None:
        super().__init__()
        self.module, self._preprocessing, self._softmax = module, preprocessing, softmax
        self.eval()  # the exporter puts all modules back into this one's mode

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Compute values (B, ...) float32, and scores if any, of pixels (B, H, W, 3) uint8."""
        values = self.module(normalize(pixels, self._preprocessing))
        scores = None
        if isinstance(values, tuple):
            values, scores = values
        values = values.float().softmax(dim=1) if self._softmax else values.float()
        return values if scores is None else (values, scores)


def convert(module: FromPixels, size: Sequence[int], *outputs: str) -> bytes:
    """Return a network as the content of an ONNX file that takes any number of images.

    Args:
        module: The network on the CPU, in eval mode.
        size: (height, width) of its input in pixels.
        outputs: Names of the outputs.

    Raises:
        EngineError: When it cannot be converted.
    """
    file, fused_attention = BytesIO(), torch.backends.mha.get_fastpath_enabled()
    try:
        # torch's own multi-head attention has a fused form that ONNX does not know.
        torch.backends.mha.set_fastpath_enabled(False)
        with warnings.catch_warnings(), torch.no_grad():
            # The exporter warns of every Python number that it sees, and of its own age. What it
            # gets wrong is found by trying the result.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (torch.zeros(2, *size, 3, dtype=torch.uint8),),
                file,  # type: ignore[arg-type]  # its own annotation leaves files out
                dynamo=False,  # the newer exporter takes five to ten times as long
                opset_version=OPSET,
                input_names=[PIXELS],
                output_names=list(outputs),
                dynamic_axes={name: {0: "n"} for name in (PIXELS, *outputs)},
            )
    except Exception as error:
        # Control flow that depends on the data fails in as many ways as there are models.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise EngineError(f"it cannot be converted to ONNX: {reason[:200]}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    return file.getvalue()


def require_equal(
    content: bytes, module: FromPixels, size: Sequence[int], engine: Engine, precision: Precision
) -> None:
    """Check on a few images that an engine computes what torch does.

    In fp32 each row may differ by `TOLERANCE`. In bf16 it may also differ by twice as much as
    torch's own bf16 does.

    Raises:
        EngineError: When it differs by more.
    """
    # Photographs are smooth and noise is not; a network has to agree on both.
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (_TRIED, *size, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, size[1]).astype(np.uint8)[None, :, None]
    noise[-2:] = ramp
    pixels = torch.from_numpy(noise)
    with torch.no_grad():
        expected = _in_one(module(pixels))
        allowed = TOLERANCE
        if precision is Precision.BF16:
            with autocast(pixels.device, precision):
                allowed = max(2 * _distance(_in_one(module(pixels)), expected), 0.01)
    values = torch.from_numpy(open_runtime(engine, content, precision)(noise))
    found = _distance(values, expected) if values.shape == expected.shape else float("inf")
    if not found <= allowed:
        raise EngineError(
            f"its results differ from torch's by {found:.1e}, more than {allowed:.1e}, relative "
            "to a row"
        )


def _in_one(values: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Return the values with the scores, if any, as the last column."""
    if isinstance(values, tuple):
        return torch.cat([values[0], values[1][:, None]], dim=1)
    return values


def _distance(values: Tensor, expected: Tensor) -> float:
    """Return the largest distance of two rows, relative to the expected one."""
    values, expected = values.flatten(1).double(), expected.flatten(1).double()
    length = expected.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    return float(((values - expected).norm(dim=1) / length).max())
