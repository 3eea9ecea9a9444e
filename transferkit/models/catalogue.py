"""All backbones that can be named, and which of them are on this machine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.errors import CacheNotFound
from timm.models import get_pretrained_cfg, list_pretrained, split_model_name_tag

from transferkit.models.backbone_lookup import embedded_folders
from transferkit.models.edges_source import EDGES
from transferkit.models.timm_source import TIMM
from transferkit.models.torchvision_source import TORCHVISION, weights_config
from transferkit.models.weights import HUB_FILES


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone that can be named.

    Attributes:
        name: Name as the command line takes it.
        weights: Tags of published weights, the default first.
        local: Whether weights for it are on this machine.
    """

    name: str
    weights: tuple[str, ...]
    local: bool


def list_backbones() -> Iterator[BackboneEntry]:
    """Yield all backbones: those that need no download, then timm's, then torchvision's."""
    local = _local_names()
    tags: dict[str, list[str]] = {}
    for name in list_pretrained():
        architecture, tag = split_model_name_tag(name)
        tags.setdefault(architecture, []).append(tag)
    for name in embedded_folders():
        yield BackboneEntry(name, ("embedded",), True)
    for name in EDGES.names():
        yield BackboneEntry(name, ("by formula",), True)
    for name in TIMM.names():
        here = any(f"{name}.{tag}" in local for tag in tags.get(name, ()))
        yield BackboneEntry(name, _default_first(name, tags.get(name, [])), here)
    for architecture in TORCHVISION.names():
        config = weights_config(architecture)
        file = config["url"].rsplit("/", 1)[-1]
        name = f"{TORCHVISION.prefix}{architecture}"
        yield BackboneEntry(name, (config["tag"],), file in local)


def _default_first(name: str, tags: Sequence[str]) -> tuple[str, ...]:
    published = get_pretrained_cfg(name)
    default = published.tag if published else None
    return tuple(sorted(tags, key=lambda tag: (tag != default, tag)))


def _local_names() -> set[str]:
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
