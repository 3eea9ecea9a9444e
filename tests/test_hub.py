"""Downloads from a model hub: complete, once, and checked; and errors without a hub."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
from hub_server import point_client_at, serve_hub

import transferkit
from transferkit.errors import WeightsError
from transferkit.models.create_network import create_network
from transferkit.models.digests import tensors_digest
from transferkit.options.shared import DEFAULT_BACKBONE

REPOSITORY = "timm/test_resnet.r160_in1k"
CONFIG = {
    "architecture": "test_resnet",
    "num_classes": 1000,
    "pretrained_cfg": {"input_size": [3, 160, 160], "num_classes": 1000},
}
NOBODY = "http://127.0.0.1:9"
"""An address where nothing listens."""
PROGRAM = """
import json, sys
from transferkit.cli.deferred_compiler import defer_compiler
defer_compiler()  # as the command line does
from transferkit import TransferKitError
from transferkit.models.catalogue import list_backbones
from transferkit.models.digests import tensors_digest
from transferkit.models.create_network import create_network
answers = []
for name in sys.argv[1:]:
    try:
        answers.append(tensors_digest(create_network(name).module.state_dict()))
    except TransferKitError as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps([answers, [entry.name for entry in list_backbones() if entry.local]]))
"""


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    module = create_network("test_resnet", weights="none").module
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def answer(name: str) -> str:
    """Return the digest of a backbone's weights, or the error of loading them."""
    try:
        return tensors_digest(create_network(name).module.state_dict())
    except WeightsError as error:
        return f"WeightsError: {error}"


def ask_fresh_process(endpoint, home, *names):
    """Return the answers of a new process, and the backbones it finds on this machine.

    It reads the hub's address and cache from its environment.
    """
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *names]
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "TORCH_HOME": str(home / "torch"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "https_proxy": NOBODY,  # torchvision would download its weights by https
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers, local = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(names, answers, strict=True)), local


class Visits(NamedTuple):
    """Answers of three visits to the hub, by backbone.

    Attributes:
        first: Begins with an empty cache.
        second: After the damaged file was repaired.
        third: By a fresh process, after the hub was gone.
        requests: The requests of the first visit.
        local: The backbones that the third visit found on this machine.
    """

    first: dict[str, str]
    second: dict[str, str]
    third: dict[str, str]
    requests: list[str]
    local: list[str]


@pytest.fixture(scope="module")
def visits(weights, tmp_path_factory):
    """Three visits that share a cache."""
    home = tmp_path_factory.mktemp("home")
    content = safetensors.torch.save(weights)
    config = json.dumps(CONFIG).encode()
    truncated = ["timm/test_vit.r160_in1k/model.safetensors"]
    damaged = ["someone/damaged/model.safetensors"]
    files = dict.fromkeys([f"{REPOSITORY}/model.safetensors", *truncated, *damaged], content)
    files |= {
        "someone/damaged/config.json": config,
        "someone/cats/config.json": config,
        "someone/cats/model.safetensors": content,
    }
    good = ("test_resnet", "hf-hub:someone/cats")
    asked = (*good, "hf-hub:someone/dogs", "test_vit", "hf-hub:someone/damaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(home / "torch"))
        with serve_hub(files, truncated=truncated, damaged=damaged) as (address, requests):
            point_client_at(address, home / "hub", patch)
            first = {name: answer(name) for name in asked}
            first_requests = list(requests)
            damaged.clear()
            second = {"hf-hub:someone/damaged": answer("hf-hub:someone/damaged")}
    third, local = ask_fresh_process(NOBODY, home, *good, "test_vit", "torchvision:alexnet")
    return Visits(first, second, third, first_requests, local)


def test_download__arrives_whole_and_is_not_fetched_twice(visits, weights):
    whole = tensors_digest(weights)

    for name in ("test_resnet", "hf-hub:someone/cats"):
        assert visits.first[name] == whole
        assert visits.third[name] == whole, "found on this machine, without a hub"
    assert any(request.startswith("GET") for request in visits.requests)
    assert "test_resnet" in visits.local


def test_download__of_a_missing_repository_names_it(visits):
    answer = visits.first["hf-hub:someone/dogs"]

    assert answer.startswith("WeightsError: someone/dogs on http://127.0.0.1")


def test_download__refuses_a_truncated_file(visits):
    answer = visits.first["test_vit"]

    assert answer.startswith("WeightsError: cannot download model.safetensors of timm/test_vit.")
    assert "--weights PATH" in answer
    assert "test_vit" not in visits.local


def test_download__refuses_and_removes_a_file_with_another_digest(visits, weights):
    refused, fetched_again = (
        visit["hf-hub:someone/damaged"] for visit in (visits.first, visits.second)
    )

    assert refused.startswith("WeightsError: model.safetensors: the downloaded file is damaged")
    assert fetched_again == tensors_digest(weights)


def test_download__from_an_unreachable_hub_is_one_line_with_advice(visits):
    timms, torchvisions = visits.third["test_vit"], visits.third["torchvision:alexnet"]

    assert timms.startswith(
        f"WeightsError: cannot reach the model hub {NOBODY} to download timm/test_vit."
    )
    for advice in (DEFAULT_BACKBONE, "edges8", "test_resnet", "--weights PATH", "--weights none"):
        assert advice in timms
        assert advice in torchvisions
    assert "\n" not in timms + torchvisions


def test_download__fetches_a_classifier_with_its_network(image_folder, tmp_path, monkeypatch):
    run = transferkit.finetune(
        image_folder, tmp_path / "run", backbone="edges8", strategy="features", classifier="ridge"
    ).run
    files = {f"someone/colours/{p.name}": p.read_bytes() for p in (run / "model").iterdir()}
    image = str(next((image_folder / "blue").iterdir()))
    with serve_hub(files) as (address, seen):
        point_client_at(address, tmp_path / "cache", monkeypatch)
        fetched = transferkit.predict([image], model="hf-hub:someone/colours")

    assert fetched == transferkit.predict([image], model=str(run))
    assert any("classifier.skops" in request for request in seen)
