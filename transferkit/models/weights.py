"""Fit the tensors of a weights file to a network: all of its backbone, or none."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from transferkit.errors import WeightsError, name_some
from transferkit.models.network import Network
from transferkit.models.weights_file import State, read_weights

_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
_WRAPPED_PREFIXES = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class _Fitting:
    """The tensors of a file whose names begin with one prefix.

    Attributes:
        prefix: The prefix, with its last dot; empty for the names as they are.
        tensors: The tensors under it, named without it.
        outside: Names of all others.
        matching: How many have the name and the shape of one of the network's tensors.
        misfits: What keeps them from fitting, one text per kind.
    """

    prefix: str
    tensors: State
    outside: tuple[str, ...]
    matching: int
    misfits: tuple[str, ...]


def fit_weights(
    network: Network,
    path: Path,
    *,
    keep_head: bool,
    layouts: Sequence[Callable[[State], State | None]] = (),
) -> str:
    """Load a weights file into a network: every tensor of the backbone, or none.

    Programs save a network inside others, which puts a prefix before the names of its tensors. The
    one prefix under which all of them fit is removed, and tensors outside it are left.

    Args:
        network: Network to load into, in place.
        path: A .safetensors or .pth file.
        keep_head: Whether the file's head must fit as well; if not, it is dropped and may have
            another width.
        layouts: Translations of the file's tensors, tried in turn if its names do not fit.

    Returns:
        What the user should know about the choice; empty if the file left none.

    Raises:
        WeightsError: When the file cannot be read, is for another architecture, fits in several
            ways, or holds numbers that are not finite; names the first tensors concerned.
    """
    file = read_weights(path)
    fitting, *more = _find_fittings(network, file.tensors, keep_head=keep_head)
    if more:
        prefixes = ", ".join(one.prefix for one in (fitting, *more))
        raise WeightsError(
            f"{path}: all of {network.name}'s tensors are in it {1 + len(more)} times, under "
            f"{prefixes}; save the ones that you want in a file of their own"
        )
    state = fitting.tensors
    if fitting.misfits:
        state = _translated(network, file.tensors, layouts, keep_head=keep_head) or {}
    if not state:
        raise WeightsError(
            f"{path}: these weights are not {network.name}'s: {_describe_misfits(fitting)}. "
            "Name the backbone that they belong to with --backbone"
        )
    if not keep_head:
        state = _without(state, _head_prefixes(network))
    _require_finite(state, path)
    copy_tensors(state, network.module)
    notes = [f"the averaged weights, {file.table}, were read"] if file.is_averaged else []
    if fitting.outside and not fitting.misfits:
        others = f"{name_some(fitting.outside)} left out"
        notes.append(f"the tensors under {fitting.prefix} were read, {others}")
    return f"{path}: {'; '.join(notes)}" if notes else ""


def _find_fittings(network: Network, state: State, *, keep_head: bool) -> list[_Fitting]:
    """Return the tensors under each prefix that fits; if none does, under the one that fits best.

    If the names fit as they are, no prefix is considered.
    """
    matching = _count_matching(network, state)
    prefixes = sorted({"", *matching}, key=lambda prefix: (-matching[prefix], prefix))
    fittings = [
        _under(prefix, network, state, matching[prefix], keep_head=keep_head)
        for prefix in prefixes
        if not prefix or matching[prefix] == matching[prefixes[0]]
    ]
    as_they_are = [one for one in fittings if not one.prefix and not one.misfits]
    return as_they_are or [one for one in fittings if not one.misfits] or fittings[:1]


def _count_matching(network: Network, state: State) -> Counter[str]:
    """Return prefix -> number of tensors that have a name and shape of the network's after it."""
    shapes = {name: tensor.shape for name, tensor in network.module.state_dict().items()}
    found: Counter[str] = Counter()
    for name, tensor in state.items():
        parts = name.split(".")
        for start in range(len(parts)):
            if shapes.get(".".join(parts[start:])) == tensor.shape:
                found["".join(f"{part}." for part in parts[:start])] += 1
    return found


def _under(
    prefix: str, network: Network, state: State, matching: int, *, keep_head: bool
) -> _Fitting:
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    inside = _without_auxiliary_heads(inside)
    outside = tuple(name for name in state if not name.startswith(prefix))
    misfits = tuple(_misfits(network, inside, keep_head=keep_head))
    return _Fitting(prefix, inside, outside, matching, misfits)


def _translated(
    network: Network,
    state: State,
    layouts: Sequence[Callable[[State], State | None]],
    *,
    keep_head: bool,
) -> State | None:
    """Return the tensors as the first of the translations that fits names them."""
    for prefix in _WRAPPED_PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    state = _without_auxiliary_heads(state)
    for layout in layouts:
        translated = layout(state)
        if translated is not None and not _misfits(network, translated, keep_head=keep_head):
            return translated
    return None


def _describe_misfits(fitting: _Fitting) -> str:
    text = "; ".join(fitting.misfits)
    if not fitting.prefix:
        return text
    return f"under the prefix {fitting.prefix}, which fits best, {fitting.matching} fit; {text}"


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
        state: Weights named as in `other`, perhaps with a prefix.
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
    fitting, *more = _find_fittings(other, state, keep_head=False)
    if not same_size or more or fitting.misfits:
        return None
    state = fitting.tensors
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
