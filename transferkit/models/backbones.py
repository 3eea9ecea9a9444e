"""From the name that a user types to a network that is ready.

A name is timm's, with or without a weights tag; `torchvision:NAME`; `hf-hub:OWNER/NAME`; or
`local-dir:PATH`, a folder with config.json and weights such as a run's model/.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import CacheNotFound
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.models import create_model, get_pretrained_cfg, list_pretrained, split_model_name_tag
from torchvision.models import ResNet18_Weights

from transferkit.data.preprocessing import Preprocessing
from transferkit.errors import OptionError, UnknownNameError, WeightsError
from transferkit.models.network import Network, Source
from transferkit.models.timm_source import TIMM
from transferkit.models.torchvision_source import TORCHVISION, weights_config
from transferkit.models.weights import (
    HUB_FILES,
    State,
    fit_weights,
    hub_file,
    translate_layout,
    url_file,
)

SOURCES: tuple[Source, ...] = (TORCHVISION, TIMM)
"""Every library that backbones come from; the one without a prefix stands last."""

PRETRAINED = "pretrained"
NO_WEIGHTS = "none"
_HUB_PREFIX = "hf-hub:"
LOCAL_PREFIX = "local-dir:"
_OF_PUBLISHED_WEIGHTS = (
    *("tag", "license", "description", "origin_url", "paper_name", "paper_ids", "notes"),
    *("label_names", "label_descriptions", "transferkit"),
)
"""What a configuration says of its published weights, and of no others."""
_REFUSED_ARGUMENTS = frozenset(
    (
        *("cache_dir", "checkpoint_path", "exportable", "no_jit", "num_classes", "pretrained"),
        *("pretrained_cfg", "pretrained_cfg_overlay", "scriptable"),
    )
)
_ADVICE = (
    "give a weights file with --weights PATH, train from scratch with --weights none, or see what "
    "is on this machine with: transferkit backbones --local"
)


@dataclass(frozen=True)
class Origin:
    """Where a named backbone comes from, before it is built.

    Attributes:
        source: The library that builds it.
        architecture: The library's name.
        config: timm's pretrained configuration, of the weights that the name stands for.
        model_args: Arguments beyond the name that build it.
        folder: A local folder that holds its weights.
        repository: A hub repository that holds them.
    """

    source: Source
    architecture: str
    config: Mapping[str, Any]
    model_args: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    repository: str | None = None

    def weights_file(self) -> Path:
        """The file of pretrained weights, downloaded where it is not on this machine.

        Raises:
            WeightsError: When there are none, or they cannot be had.
        """
        if self.folder:
            found = [self.folder / name for name in HUB_FILES if (self.folder / name).is_file()]
            if not found:
                raise WeightsError(f"{self.folder}: no {' or '.join(HUB_FILES)} in it")
            return found[0]
        if self.repository:
            filename = self.config.get("hf_hub_filename")
            names = (filename,) if filename else HUB_FILES
            return hub_file(self.repository, names, advice=_ADVICE)
        if url := self.config.get("url"):
            return url_file(url, advice=_ADVICE)
        raise WeightsError(
            f"there are no published weights for {self.source.prefix}{self.architecture}; {_ADVICE}"
        )


def find_backbone(name: str) -> Origin:
    """Look a backbone up by name; nothing is built, and only `hf-hub:` touches the network.

    Raises:
        UnknownNameError: When there is no such backbone; close names are suggested.
        WeightsError: When a folder or repository has no usable config.json.
    """
    if name.startswith(LOCAL_PREFIX):
        folder = Path(name.removeprefix(LOCAL_PREFIX))
        return _from_config(folder / "config.json", folder=folder)
    if name.startswith(_HUB_PREFIX):
        repository = name.removeprefix(_HUB_PREFIX)
        file = hub_file(repository, ("config.json",), advice=_ADVICE)
        return _from_config(file, repository=repository)
    if name.startswith(TORCHVISION.prefix):
        architecture = name.removeprefix(TORCHVISION.prefix)
        if architecture not in TORCHVISION.names():
            raise _unknown(name)
        return Origin(TORCHVISION, architecture, weights_config(architecture))
    architecture, tag = split_model_name_tag(name)
    if architecture not in TIMM.names():
        raise _unknown(name)
    known = [n for n in list_pretrained() if split_model_name_tag(n)[0] == architecture]
    if tag and name not in known:
        raise UnknownNameError("weights tag", name, known, _SEARCH_HINT)
    published = get_pretrained_cfg(name)
    config: dict[str, Any] = published.to_dict() if published else {"num_classes": 1000}
    return Origin(TIMM, architecture, config, repository=config.get("hf_hub_id"))


_SEARCH_HINT = "search with: transferkit backbones PATTERN"


def _unknown(name: str) -> UnknownNameError:
    bare = name.removeprefix(TORCHVISION.prefix)
    if bare in TORCHVISION.names():
        return UnknownNameError(
            "backbone", name, [], f"torchvision has it: {TORCHVISION.prefix}{bare}"
        )
    known = [f"{source.prefix}{n}" for source in SOURCES for n in source.names()]
    return UnknownNameError("backbone", name, known, _SEARCH_HINT)


def _from_config(
    file: Path, *, folder: Path | None = None, repository: str | None = None
) -> Origin:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        name, config, model_args = _checked_config(values)
    except FileNotFoundError as error:
        raise WeightsError(f"{file.parent}: no config.json in it, so it is no model") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"{file}: not a model's configuration ({type(error).__name__}: {error})"
        ) from error
    source = next(s for s in SOURCES if name.startswith(s.prefix))
    architecture = name.removeprefix(source.prefix)
    if architecture not in source.names():
        raise _unknown(name)
    return Origin(source, architecture, config, model_args, folder, repository)


def _checked_config(values: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Architecture, configuration and model arguments of a config.json, or an error that says why.

    The file may come from anyone: arguments that name files or switch code are refused.
    """
    config = dict(values.get("pretrained_cfg", values))
    for key in ("num_classes", "label_names", "label_descriptions", "transferkit"):
        if key in values:
            config[key] = values[key]
    name = values.get("architecture") or config["architecture"]
    model_args = values.get("model_args") or {}
    if not isinstance(name, str) or not isinstance(model_args, dict):
        raise ValueError("architecture must be a name and model_args a table")
    if unsafe := sorted(_REFUSED_ARGUMENTS & model_args.keys()):
        raise ValueError(f"model_args must not name {', '.join(unsafe)}")
    if not isinstance(config.setdefault("num_classes", 1000), int):
        raise ValueError("num_classes must be a whole number")
    labels = config.get("label_names")
    if labels is not None and (
        not isinstance(labels, list)
        or not all(isinstance(label, str) for label in labels)
        or len(set(labels)) < len(labels)
    ):
        raise ValueError("label_names must be a list of different texts")
    Preprocessing.from_config(config)
    config.pop("architecture", None)
    return name, config, model_args


def create_network(
    name: str,
    *,
    weights: str | Path = PRETRAINED,
    num_classes: int | None = None,
    image_size: int | None = None,
) -> Network:
    """Build a backbone with its weights, and a new head or its own.

    Args:
        name: As the user types it.
        weights: `pretrained`, `none`, or the path of a weights file.
        num_classes: Width of a new, untrained head; None keeps the pretrained one.
        image_size: Side in pixels for networks that are built for one size; None for their own.

    Raises:
        UnknownNameError: When there is no such backbone.
        WeightsError: When the weights cannot be had or do not fit.
        OptionError: When the network cannot be built for that image size.
    """
    origin = find_backbone(name)
    if str(weights) != PRETRAINED:
        config = {k: v for k, v in origin.config.items() if k not in _OF_PUBLISHED_WEIGHTS}
        origin = replace(origin, config=config)
    network = _build(origin, image_size)
    if str(weights) != NO_WEIGHTS:
        path = origin.weights_file() if str(weights) == PRETRAINED else Path(weights)
        layouts = (
            lambda state: _timm_translation(network, path),
            lambda state: _other_library_translation(network, state),
        )
        fit_weights(network, path, keep_head=num_classes is None, layouts=layouts)
    return network if num_classes is None else network.with_new_head(num_classes)


def _build(origin: Origin, image_size: int | None) -> Network:
    args, config = dict(origin.model_args), dict(origin.config)
    if image_size is not None:
        if config.get("fixed_input_size") and origin.source is TIMM:
            args["img_size"] = image_size
        config["input_size"] = (3, image_size, image_size)
    try:
        network = origin.source.build(origin.architecture, args, config)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = f"({' '.join(str(error).split())[:200]})"
        if image_size is None and not origin.model_args:
            raise
        if image_size is None:
            raise WeightsError(
                f"{origin.architecture} cannot be built with model_args "
                f"{json.dumps(dict(origin.model_args))} {reason}; mend config.json"
            ) from error
        raise OptionError(
            f"--image-size: {origin.architecture} cannot be built for {image_size} px {reason}; "
            "leave the option out or try another size"
        ) from error
    if image_size is not None:
        network.check_input_size()
    return network


def _timm_translation(network: Network, path: Path) -> State | None:
    """The file's weights as timm's own filter for this architecture reads them."""
    if network.source is not TIMM:
        return None
    try:
        module = create_model(
            network.architecture,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path), "num_classes": network.num_classes},
            num_classes=network.num_classes,
            **network.model_args,
        )
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError):
        # Not a layout that timm knows for this architecture: the next translation may.
        return None
    return dict(module.state_dict())


def _other_library_translation(network: Network, state: State) -> State | None:
    """The weights translated from the other library's build of the same architecture."""
    for source in SOURCES:
        if source is not network.source and network.architecture in source.names():
            config = {**network.config, "num_classes": network.num_classes}
            other = source.build(network.architecture, {}, config)
            translated = translate_layout(state, other, network)
            if translated is not None:
                return translated
    return None


def categories(network: Network) -> tuple[str, ...]:
    """The names of a pretrained network's own categories, in order of its outputs.

    ImageNet's thousand carry torchvision's names, which are distinct; larger ImageNets carry
    timm's descriptions.

    Raises:
        UnknownNameError: When nothing says what the outputs mean.
    """
    if not network.heads:
        raise UnknownNameError(
            "set of categories", network.name, [], "it comes without a head; finetune it first"
        )
    if names := network.config.get("label_names"):
        return tuple(names)
    if network.num_classes == 1000:
        return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
    subset = infer_imagenet_subset({**network.config, "num_classes": network.num_classes})
    if subset is None:
        raise UnknownNameError("set of categories", network.name, [], "predict with -m RUN instead")
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(network.num_classes))


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone that can be named.

    Attributes:
        name: As the command line takes it.
        weights: Tags of published weights, the default first.
        local: Whether its default weights are on this machine already.
    """

    name: str
    weights: tuple[str, ...]
    local: bool


def list_backbones() -> Iterator[BackboneEntry]:
    """Every backbone that can be named, timm's first, each in sorted order."""
    local = _local_names()
    tags: dict[str, list[str]] = {}
    for name in list_pretrained():
        architecture, tag = split_model_name_tag(name)
        tags.setdefault(architecture, []).append(tag)
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
        # A download that broke off leaves a repository without its weights.
        files = {file.file_name for revision in repository.revisions for file in revision.files}
        if files & set(HUB_FILES):
            names.add(repository.repo_id.removeprefix("timm/"))
    return names
