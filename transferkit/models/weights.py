"""Pretrained weights: fetch them, read them without running code, fit them to a network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors.torch
import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch import Tensor, nn

from transferkit.errors import WeightsError, name_some
from transferkit.files import file_digest
from transferkit.models.network import Network

State = dict[str, Tensor]

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_WRAPPED_PREFIXES = ("module.", "_orig_mod.", "model.")


def read_weights(path: Path) -> State:
    """Read named tensors from a .safetensors or PyTorch file; no pickled code is run.

    Raises:
        WeightsError: When there is no such file, or it contains anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weights file; expected a .safetensors or .pth file "
            "(--weights takes pretrained, none or a path)"
        )
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files raise many kinds of errors, depending on the format. So does a pickle that
        # would run code. The cause is this file in any case.
        reason = str(error).split("\n")[0][:200]
        raise WeightsError(
            f"{path}: cannot be read as weights ({type(error).__name__}: {reason}); expected "
            "tensors only, in a .safetensors or .pth file"
        ) from error
    return _unwrapped(loaded, path)


def _unwrapped(loaded: object, path: Path) -> State:
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(
            f"{path}: holds no table of named tensors; save the model's state_dict() there"
        )
    state = dict(loaded)
    for prefix in _WRAPPED_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def fit_weights(
    network: Network,
    path: Path,
    *,
    keep_head: bool,
    layouts: Sequence[Callable[[State], State | None]] = (),
) -> None:
    """Load a weights file into a network: every tensor of the backbone, or none.

    Args:
        network: Network to load into, in place.
        path: A .safetensors or .pth file.
        keep_head: Whether the file's head must fit as well; if not, it is dropped and may have
            another width.
        layouts: Translations of the file's tensors, tried in turn if its names do not fit.

    Raises:
        WeightsError: When the file cannot be read, is for another architecture, or holds numbers
            that are not finite; names the first tensors concerned.
    """
    state = _without_auxiliary_heads(read_weights(path))
    misfits = _misfits(network, state, keep_head=keep_head)
    for layout in layouts:
        if not misfits:
            break
        translated = layout(state)
        if translated is not None and not _misfits(network, translated, keep_head=keep_head):
            state, misfits = translated, []
    if misfits:
        raise WeightsError(
            f"{path}: these weights are not {network.name}'s: {'; '.join(misfits)}. "
            "Name the backbone that they belong to with --backbone"
        )
    if not keep_head:
        state = _without(state, _head_prefixes(network))
    _require_finite(state, path)
    copy_tensors(state, network.module)


def _require_finite(state: State, path: Path) -> None:
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise WeightsError(
            f"{path}: not finite (NaN or infinity) in {len(broken)} of {len(state)} tensors: "
            f"{name_some(broken)}; take a checkpoint from before training diverged"
        )


@torch.no_grad()
def copy_tensors(state: Mapping[str, Tensor], module: nn.Module) -> None:
    """Copy values into the module's tensors of the same names and shapes.

    Unlike `load_state_dict`, this needs nothing besides the tensors, such as the version number
    that torchvision's MNASNet stores in its state.
    """
    own = module.state_dict()
    for name, tensor in state.items():
        own[name].copy_(tensor)


def _misfits(network: Network, state: State, *, keep_head: bool) -> list[str]:
    expected = network.module.state_dict()
    skipped = () if keep_head else _head_prefixes(network)
    # Old files lack the batch counter, which only matters for cumulative averages (momentum=None).
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in expected]
    shapes = [
        f"{k} {tuple(state[k].shape)}, expected {tuple(expected[k].shape)}"
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    misfits = {"missing": missing, "not in the network": unexpected, "of another shape": shapes}
    kept = {
        kind: [name for name in names if not (skipped and name.startswith(skipped))]
        for kind, names in misfits.items()
    }
    return [f"{len(n)} {kind}: {name_some(n)}" for kind, n in kept.items() if n]


def translate_layout(state: State, other: Network, network: Network) -> State | None:
    """Translate weights between two builds of one architecture.

    Tensors are matched by their order. Because that proves nothing by itself, the translation is
    accepted only if both networks compute the same features of a random image with these weights.
    Both networks contain the weights afterwards, whatever the result.

    Args:
        state: Weights named as in `other`.
        other: Build whose names the weights have.
        network: Build whose names the result has.

    Returns:
        The translated state; None if `state` does not fit `other` or the features differ.
    """
    theirs, ours = other.module.state_dict(), network.module.state_dict()
    same_size = len(theirs) == len(ours) and all(
        a.numel() == b.numel()
        for (a_name, a), (_, b) in zip(theirs.items(), ours.items(), strict=True)
        if not a_name.startswith(_head_prefixes(other))
    )
    if not same_size or _misfits(other, state, keep_head=False):
        return None
    pairs = dict(zip(ours, theirs, strict=True))
    translated = {
        name: state[source].reshape(ours[name].shape)
        if state[source].numel() == ours[name].numel()
        else state[source]
        for name, source in pairs.items()
        if source in state
    }
    body = _without(translated, _head_prefixes(network))
    copy_tensors(_without(state, _head_prefixes(other)), other.module)
    copy_tensors(body, network.module)
    return translated if _same_features(other, network) else None


@torch.no_grad()
def _same_features(other: Network, network: Network) -> bool:
    shape = network.blank_image().shape
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return torch.allclose(other.features(image), network.features(image), rtol=1e-3, atol=1e-4)


def _head_prefixes(network: Network) -> tuple[str, ...]:
    return tuple(f"{head}." for head in network.heads)


def _without(state: State, prefixes: tuple[str, ...]) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


def _without_auxiliary_heads(state: State) -> State:
    return _without(state, _AUXILIARY_HEADS)


def hub_file(repository: str, filenames: Sequence[str], *, advice: Callable[[], str]) -> Path:
    """Return a file of a model repository on the Hugging Face hub, downloaded if necessary.

    Args:
        repository: `owner/name`, or `owner/name@revision`.
        filenames: Names to look for; the first that the repository has is returned.
        advice: Called if the hub cannot be reached; says in the message what to do.

    Raises:
        WeightsError: When the hub cannot be reached, has no such file, or sends a damaged one.
    """
    name, _, revision = repository.partition("@")
    place: dict[str, Any] = {"repo_id": name, "revision": revision or None}
    for filename in filenames:
        try:
            return _verified(
                Path(hf_hub_download(filename=filename, local_files_only=True, **place))
            )
        except LocalEntryNotFoundError:
            continue
    _require_hub(name, advice)
    for filename in filenames:
        try:
            return _verified(Path(hf_hub_download(filename=filename, **place)))
        except EntryNotFoundError:
            continue
        except WeightsError:
            raise
        except Exception as error:
            # The client raises errors of several libraries, and which ones depends on its version.
            raise WeightsError(
                f"cannot download {filename} of {name} from {constants.ENDPOINT}: "
                f"{_one_line(error)}; {advice()}"
            ) from error
    raise WeightsError(f"{name} on {constants.ENDPOINT} has none of {', '.join(filenames)}")


def _require_hub(name: str, advice: Callable[[], str]) -> None:
    # The client retries for half a minute before it gives up; one request is enough.
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:
        raise WeightsError(
            f"cannot reach the model hub {constants.ENDPOINT} to download {name} "
            f"({_one_line(error)}); {advice()}"
        ) from error


def _verified(path: Path) -> Path:
    # The hub's cache names each large file after the SHA-256 that the hub announced for it.
    blob = path.resolve()
    if len(blob.name) == 64 and file_digest(blob) != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise WeightsError(
            f"{path.name}: the downloaded file is damaged, its SHA-256 is not the announced "
            f"{blob.name}; it was removed, run again to download it"
        )
    return path


def url_file(url: str, *, advice: Callable[[], str]) -> Path:
    """Return the weights file at a URL, downloaded unless torch's cache has it.

    A digest in the file's name, as in resnet18-f37072fd.pth, is checked after the download.

    Raises:
        WeightsError: When the file cannot be downloaded or is damaged.
    """
    name = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if path.is_file():
        return path
    digest = torch.hub.HASH_REGEX.search(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(path), digest.group(1) if digest else None, progress=False
        )
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"cannot download {url} ({_one_line(error)}); {advice()}") from error
    return path


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
