"""The proof that what was said to be frozen did not move: digests before and after training."""

from collections.abc import Iterable, Mapping

from torch import nn

from transferkit.errors import TransferKitError, name_some
from transferkit.models.digests import tensors_digest

Digests = Mapping[str, str]
"""Name of a tensor to the SHA-256 of its values."""


def digests(module: nn.Module, names: Iterable[str]) -> Digests:
    """The digests of the module's tensors of these names; costs about a second a gigabyte."""
    state = module.state_dict()
    return {name: tensors_digest({name: state[name]}) for name in names}


def require_unchanged(before: Digests, after: Digests) -> None:
    """Compare digests taken before and after training.

    Raises:
        TransferKitError: When a frozen tensor changed, with the names of all that did. That is a
            fault of transferkit's or the backbone's, and the run is not to be trusted.
    """
    changed = [name for name, digest in before.items() if after.get(name) != digest]
    if changed:
        raise TransferKitError(
            f"{len(changed)} tensors changed though they were frozen: {name_some(changed, 20)}; "
            "no model was saved; train more of the backbone with --unfreeze, and report this"
        )
