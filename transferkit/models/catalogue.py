"""All backbones that can be named, and which of them are on this machine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import torch
from huggingface_hub.errors import CacheNotFound
from timm.models import get_pretrained_cfg, list_pretrained, split_model_name_tag

from transferkit.models.downloads import HUB_FILES
from transferkit.models.edges_source import EDGES
from transferkit.models.packaged_weights import WEIGHTS_PACKAGES
from transferkit.models.timm_source import TIMM
from transferkit.models.torchvision_source import TORCHVISION, weights_config


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone that can be named.

    Attributes:
        name: Name as the command line takes it.
        weights: Tags of published weights, the default first.
        local: Whether weights for it are on this machine.
        licence: Licence of the default weights, as their publisher states it; empty if it does not.
        origin: Where the default weights come from: a package, an owner on the hub, or a host.
    """

    name: str
    weights: tuple[str, ...]
    local: bool
    licence: str
    origin: str


def list_backbones() -> Iterator[BackboneEntry]:
    """Yield all backbones: those of installed packages, edges8, then timm's and torchvision's."""
    downloaded = _downloaded()
    tags: dict[str, list[str]] = {}
    for name in list_pretrained():
        architecture, tag = split_model_name_tag(name)
        tags.setdefault(architecture, []).append(tag)
    installed = {row.architecture: row for row in WEIGHTS_PACKAGES if row.is_installed}
    for name, row in installed.items():
        weights = _default_first(name, tags[name])
        yield BackboneEntry(name, weights, True, row.licence, row.package)
    for name in EDGES.names():
        yield BackboneEntry(name, ("by formula",), True, "", "")
    for name in TIMM.names():
        if name not in installed:
            yield _timm_entry(name, tags.get(name, []), downloaded)
    for architecture in TORCHVISION.names():
        config = weights_config(architecture)
        file = config["url"].rsplit("/", 1)[-1]
        name = f"{TORCHVISION.prefix}{architecture}"
        yield BackboneEntry(name, (config["tag"],), file in downloaded, "", _origin(config))


def _timm_entry(name: str, tags: Sequence[str], downloaded: set[str]) -> BackboneEntry:
    published = get_pretrained_cfg(name)
    config = published.to_dict() if tags and published else {}
    return BackboneEntry(
        name,
        _default_first(name, tags),
        local=any(f"{name}.{tag}" in downloaded for tag in tags),
        licence=config.get("license") or "",
        origin=_origin(config),
    )


def _origin(config: Mapping[str, Any]) -> str:
    if repository := config.get("hf_hub_id"):
        return f"hf-hub:{repository.partition('/')[0]}"
    return urlsplit(config.get("url") or "").hostname or ""


def _default_first(name: str, tags: Sequence[str]) -> tuple[str, ...]:
    published = get_pretrained_cfg(name)
    default = published.tag if published else None
    return tuple(sorted(tags, key=lambda tag: (tag != default, tag)))


def _downloaded() -> set[str]:
    """Return the names of downloaded weights: timm's without its prefix, torchvision's files."""
    checkpoints = Path(torch.hub.get_dir(), "checkpoints")
    names = {path.name for path in checkpoints.glob("*")}
    try:
        cache = huggingface_hub.scan_cache_dir()
    except CacheNotFound:
        return names
    for repository in cache.repos:
        # An interrupted download leaves a repository without its weights.
        files = {file.file_name for revision in repository.revisions for file in revision.files}
        if files & set(HUB_FILES):
            names.add(repository.repo_id.removeprefix("timm/"))
    return names
