"""Passes without gradient, from pixels to values, each on the engine that suits it.

Whatever is computed without gradient is computed here: frozen layers, features and predictions.
"""

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.compute import ComputeSettings
from transferkit.data.normalization import normalize
from transferkit.data.preprocessing import Preprocessing
from transferkit.device_copies import begin_reading, to_device
from transferkit.devices import Precision
from transferkit.engines import Engine
from transferkit.engines.conversion import OPSET, VALUES, FromPixels, convert, require_equal
from transferkit.engines.conversion_cache import load_conversion, store_conversion
from transferkit.engines.runtimes import Runtime, describe_engine, open_runtime, require_installed
from transferkit.errors import EngineError, OutputError
from transferkit.models.digests import tensors_digest
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.fusing import inference_copy
from transferkit.models.network import Network
from transferkit.models.network_cut import NetworkCut
from transferkit.models.usual_images import UsualImages

Forward = Callable[[NDArray[np.uint8]], Tensor]
"""Pixels (B, H, W, 3) uint8 to values (B, ...), without gradient."""


@dataclass(frozen=True, eq=False)
class Computation:
    """Something to compute of images.

    Attributes:
        network: The network.
        layers: The layers that compute it: the network's module or a part of it.
        what: What the values are, for people.
        details: What tells the values from others of the same layers, as JSON values.
        keep: Names of modules in `layers` whose own input or output is needed.
        of: `of(layers)` returns the function of normalised images (B, C, H, W) that computes the
            values (B, ...); it takes `layers` or a faster copy of them.
    """

    network: Network
    layers: nn.Module
    what: str
    details: Mapping[str, Any] = field(default_factory=dict)
    keep: Collection[str] = ()
    of: Callable[[nn.Module], Callable[[Tensor], Tensor]] = lambda layers: layers

    @property
    def preprocessing(self) -> Preprocessing:
        """What the network expects of its images."""
        return self.network.preprocessing

    def identity(self) -> dict[str, Any]:
        """Return everything that the values depend on besides image, engine and precision."""
        return {
            "what": self.what,
            "backbone": self.network.name,
            "model_args": dict(self.network.model_args),
            "weights": tensors_digest(self.layers.state_dict()),
            **self.details,
        }


def logits_of(network: Network) -> Computation:
    """Return the computation of a network's logits, (B, C)."""
    return Computation(network, network.module, f"{network.name}, logits")


def logits_and_scores_of(network: Network, usual: UsualImages) -> Computation:
    """Return the computation of logits, and of how unusual each image is, (B, C + 1)."""

    def of(module: nn.Module) -> Callable[[Tensor], Tensor]:
        copy, score = replace(network, module=module), deepcopy(usual).to(network.device)

        def compute(images: Tensor) -> Tensor:
            parts = copy.forward_parts(images, head=True)
            assert parts.logits is not None
            scores = score(parts.features)
            return torch.cat([parts.logits.float(), scores[:, None]], dim=1)

        return compute

    return Computation(
        network,
        network.module,
        f"{network.name}, logits and distances",
        details={"usual": usual.digest()},
        of=of,
    )


def features_of(extractor: FeatureExtractor) -> Computation:
    """Return the computation of an extractor's features, float32."""
    network = extractor.network
    return Computation(
        network,
        network.module,
        f"{network.name}, features of {', '.join(extractor.layers)}",
        details={"layers": list(extractor.layers), "pool": str(extractor.pool)},
        keep=extractor.inner_modules,
        of=lambda module: replace(extractor, network=replace(network, module=module)),
    )


def prefix_of(network: Network, cut: NetworkCut) -> Computation:
    """Return the computation of the layers before the first trained one."""
    return Computation(
        network,
        cut.prefix,
        f"{network.name}, frozen layers",
        details={"code": cut.prefix.code},
    )


class AsModule(nn.Module):
    """A computation as a module, which can be converted."""

    def __init__(self, computation: Computation) -> None:
        super().__init__()
        self.layers = computation.layers
        self._function = [computation.of(self.layers)]  # in a list, or it would be a submodule

    def forward(self, images: Tensor) -> Tensor:
        """Compute the values of normalised images."""
        return self._function[0](images)


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """A computation, ready to run.

    Attributes:
        run: Pixels to values.
        dtype: Type of the values.
        engine: What computes it; never `auto`.
    """

    run: Forward
    dtype: torch.dtype
    engine: Engine

    def begin(self, pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        """Begin to compute pixels; return what waits for the values and returns them.

        Returns:
            Returns (B, ...) float32.
        """
        return begin_reading(self.run(pixels).float())

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the values of pixels as (B, ...) float32."""
        return self.begin(pixels)()


def create_pass(computation: Computation, compute: ComputeSettings) -> ForwardPass:
    """Return a computation, ready to run on the engine that the settings name.

    A network that the engine cannot compute is computed by torch, with a notice; unless the engine
    was asked for by name.

    Raises:
        EngineError: When an engine that was asked for by name is not installed or cannot compute
            it.
    """
    if compute.engine is Engine.TORCH:
        return _in_torch(computation, compute)
    engine = Engine.OPENVINO if compute.engine is Engine.AUTO else compute.engine
    try:
        return _converted(computation, compute, engine)
    except EngineError as error:
        if compute.engine is not Engine.AUTO:
            raise EngineError(
                f"--engine {engine}: {computation.network.name}: {error}; use --engine auto"
            ) from error
        compute.notice(f"torch computes {computation.what}, because for {engine} {error}")
        return _in_torch(computation, compute)


def _converted(computation: Computation, compute: ComputeSettings, engine: Engine) -> ForwardPass:
    """Return a computation on an engine for converted networks, converting it at most once."""
    require_installed(engine)
    identity = {
        **computation.identity(),
        "what": f"{computation.what}, as ONNX",
        "preprocessing": computation.preprocessing.to_config(),
        "precision": str(compute.precision),
        "engine": describe_engine(engine),
        "opset": OPSET,
        "torch": torch.__version__,
    }
    runtime = _opened(load_conversion(identity), compute, engine)
    if runtime is None:
        content = _convert(computation, compute, engine)
        try:
            store_conversion(identity, content)
        except OutputError as error:
            compute.notice(f"{error}; the network is converted anew in every run")
        runtime = open_runtime(engine, content, compute.precision)
    dtype = torch.bfloat16 if compute.precision is Precision.BF16 else torch.float32
    return ForwardPass(lambda pixels: torch.from_numpy(runtime(pixels)), dtype, engine)


def _opened(content: bytes | None, compute: ComputeSettings, engine: Engine) -> Runtime | None:
    """Open a cached conversion; None where there is none, or it is damaged and made anew."""
    try:
        return open_runtime(engine, content, compute.precision) if content else None
    except EngineError:
        return None


def _convert(computation: Computation, compute: ComputeSettings, engine: Engine) -> bytes:
    module = FromPixels(AsModule(computation), computation.preprocessing)
    _, *size = computation.preprocessing.input_size
    content = convert(module, size, VALUES)
    require_equal(content, module, size, engine, compute.precision)
    return content


def _in_torch(computation: Computation, compute: ComputeSettings) -> ForwardPass:
    image = computation.network.blank_image()
    layers, dtype = fast_module(computation.layers, image, compute, computation.keep)
    forward = computation.of(layers)

    @torch.no_grad()
    def run(pixels: NDArray[np.uint8]) -> Tensor:
        given = to_device(torch.from_numpy(pixels), compute.device)
        images = normalize(given, computation.preprocessing).to(dtype)
        with compute.autocast_for(dtype):
            return compute.micro_batches.compute(forward, images)

    return ForwardPass(run, dtype, Engine.TORCH)


def fast_module(
    module: nn.Module, image: Tensor, compute: ComputeSettings, keep: Collection[str] = ()
) -> tuple[nn.Module, torch.dtype]:
    """Return the module that torch runs for inference in the precision of `compute`.

    In bf16 it is a copy cast to bfloat16, with norms fused. In fp32 it is the module itself, so
    that results are exact. It is also the module itself where the cast copy fails because it mixes
    types; autocast handles those.

    Args:
        module: Put into eval mode.
        image: An input that the module accepts, float32; used to try the copy.
        compute: Its precision decides.
        keep: Names of modules whose own input or output is needed, so they are not fused.

    Returns:
        The module, and the type of its weights and of its input.
    """
    module.eval()
    if compute.precision is not Precision.BF16:
        return module, torch.float32
    copy = inference_copy(module, torch.bfloat16, keep)
    try:
        with torch.inference_mode():
            copy(image.bfloat16())
    except RuntimeError:
        return module, torch.float32
    return copy, torch.bfloat16
