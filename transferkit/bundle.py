"""The artefact of a run: a folder with everything that prediction needs.

`config.json` and `model.safetensors` are timm's own local-directory layout, so
`timm.create_model("local-dir:RUN/model", pretrained=True)` loads the networks that timm builds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from transferkit.data.images import ImageError, read_image, upright_rgb
from transferkit.data.transforms import eval_transform, normalize
from transferkit.errors import BundleError, DataError, TransferKitError
from transferkit.files import whole_folder, write_json
from transferkit.models.backbones import create_network
from transferkit.models.network import Network
from transferkit.models.origin import HUB_PREFIX, LOCAL_PREFIX

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

_NOT_SAVED = (
    # where the pretrained weights came from
    *("url", "file", "hf_hub_id", "hf_hub_filename", "source", "custom_load"),
    # what held for these at another picture size
    *("test_input_size", "test_crop_pct", "test_pool_size", "pool_size", "min_input_size"),
    # what stands elsewhere in the file
    *("architecture", "label_names", "label_descriptions", "transferkit"),
)


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """A trained network and the names of its classes.

    Attributes:
        network: With weights, in eval mode.
        class_names: In order of the outputs.
        training: How it was made, JSON values.

    Example:
        >>> bundle = ModelBundle.load("runs/cats")          # doctest: +SKIP
        >>> bundle.predict_proba(["a.jpg", "b.jpg"]).shape  # doctest: +SKIP
        (2, 5)
    """

    network: Network
    class_names: tuple[str, ...]
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> "ModelBundle":
        """Load a model.

        Args:
            path: A run, its model/ folder, or a `local-dir:` or `hf-hub:` name.

        Raises:
            BundleError: When there is no model, or it is damaged or incompatible.
        """
        name = str(path)
        if not name.startswith((LOCAL_PREFIX, HUB_PREFIX)):
            name = f"{LOCAL_PREFIX}{_model_folder(Path(path))}"
        try:
            network = create_network(name)
        except BundleError:
            raise
        except TransferKitError as error:
            raise BundleError(f"{path}: cannot load the model: {error}") from error
        names = network.config.get("label_names")
        if not names or len(names) != network.num_classes:
            raise BundleError(
                f"{path}: names {len(names or ())} classes for {network.num_classes} outputs; "
                f"expected label_names in {CONFIG}, one an output"
            )
        return cls(network, tuple(names), network.config.get("transferkit", {}))

    def save(self, folder: Path) -> None:
        """Write the model as `folder`, whole; a folder already there is replaced.

        Raises:
            OutputError: When it cannot be written, a full device included.
        """
        state = _separate(self.network.module.state_dict())
        size = sum(tensor.nbytes for tensor in state.values())
        with whole_folder(folder, size=size) as temporary:
            write_json(temporary / CONFIG, self._config())
            safetensors.torch.save_file(state, temporary / WEIGHTS, {"format": "pt"})
            # safetensors lets nobody but the owner read what it writes; the umask shall decide.
            (temporary / WEIGHTS).chmod((temporary / CONFIG).stat().st_mode)

    def _config(self) -> dict[str, Any]:
        network = self.network
        config = {k: v for k, v in network.config.items() if k not in _NOT_SAVED}
        config.update(network.preprocessing.to_config())
        return {
            "architecture": network.name,
            "num_classes": network.num_classes,
            "num_features": network.feature_dim,
            "label_names": list(self.class_names),
            "pretrained_cfg": config,
            "model_args": dict(network.model_args),
            "transferkit": {"version": version("transferkit"), **self.training},
        }

    def predict_proba(self, images: Sequence[str | Path | Image.Image]) -> NDArray[np.float32]:
        """Class probabilities of a few pictures at once.

        Args:
            images: N files or pictures.

        Returns:
            (N, C) float32, columns in the order of `class_names`.

        Raises:
            DataError: When a file cannot be read as a picture.
        """
        transform = eval_transform(self.network.preprocessing)
        fixed = np.random.default_rng(0)
        pixels = [torch.from_numpy(transform(_picture(image), fixed)) for image in images]
        if not pixels:
            return np.empty((0, len(self.class_names)), dtype=np.float32)
        batch = torch.stack(pixels).to(self.network.device)
        with torch.inference_mode():
            logits = self.network.module.eval()(normalize(batch, self.network.preprocessing))
        return logits.softmax(dim=1).cpu().numpy()  # type: ignore[no-any-return]


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, none of them sharing memory: safetensors refuses those that do."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in state.items():
        tensor = tensor.cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return separate


def _picture(image: str | Path | Image.Image) -> Image.Image:
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    try:
        return read_image(Path(image))
    except ImageError as error:
        raise DataError(f"{image}: {error}") from error


def _model_folder(path: Path) -> Path:
    for folder in (path / "model", path):
        if (folder / CONFIG).is_file():
            return folder
    if not path.exists():
        raise BundleError(f"{path}: no such run; expected the folder that finetune wrote")
    what = "a folder" if path.is_dir() else "a file"
    raise BundleError(
        f"{path}: {what} without a model; expected model/{CONFIG} in it, as finetune leaves it "
        "when it is done"
    )
