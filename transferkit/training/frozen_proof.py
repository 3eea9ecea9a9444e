"""Proof that frozen tensors did not change: digests before and after training."""

from collections.abc import Iterable, Mapping

from torch import nn

from transferkit.errors import TransferKitError, name_some
from transferkit.models.digests import tensors_digest

Digests = Mapping[str, str]
"""Tensor name -> SHA-256 of its values."""


def digests(module: nn.Module, names: Iterable[str]) -> Digests:
    """Return the digests of some of the module's tensors; takes about a second per gigabyte."""
    state = module.state_dict()
    return {name: tensors_digest({name: state[name]}) for name in names}


def require_unchanged(before: Digests, after: Digests) -> None:
    """Check that digests taken before and after training are equal.

    Raises:
        TransferKitError: When frozen tensors changed; names them. That is a bug in transferkit or
            in the backbone, and the run cannot be trusted.
    """
    changed = [name for name, digest in before.items() if after.get(name) != digest]
    if changed:
        raise TransferKitError(
            f"{len(changed)} tensors changed although frozen: {name_some(changed)}; "
            "no model was saved; train more of the backbone with --unfreeze, and report this"
        )
