"""Downloads: the ordinary client against a stand-in hub, in a process of its own.

The client reads HF_ENDPOINT and HF_HOME when it is imported, so each visit is a fresh process, as
it is for a user.
"""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import huggingface_hub
import pytest
import safetensors.torch
import torch
from hub import serve_hub

import transferkit
from transferkit.models.digests import tensors_digest
from transferkit.models.sources import create_network

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
from transferkit.models.sources import create_network
from transferkit.models.catalogue import list_backbones
from transferkit.models.digests import tensors_digest
answers = []
for name in sys.argv[1:]:
    try:
        network = create_network(name)
        answers.append(tensors_digest(network.module.state_dict()))
    except TransferKitError as error:
        answers.append(f"{type(error).__name__}: {error}")
answers.append([entry.name for entry in list_backbones() if entry.local])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    module = create_network("test_resnet", weights="none").module
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def ask(endpoint, home, *names):
    """What a fresh process says: a digest or an error for each backbone, and what is local."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *names]
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "TORCH_HOME": str(home / "torch"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "https_proxy": NOBODY,  # where torchvision's weights are, whatever network there is
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *answers, local = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(names, answers, strict=True)), local


class Visits(NamedTuple):
    """What three processes were answered, by the name of a backbone.

    Attributes:
        first: A process that begins with nothing.
        second: The next one, when the damaged file has been mended.
        third: One whose hub is gone.
        requests: Those of the first.
        local: What the first one has on this machine at its end.
    """

    first: dict[str, str]
    second: dict[str, str]
    third: dict[str, str]
    requests: list[str]
    local: list[str]


@pytest.fixture(scope="module")
def visits(weights, tmp_path_factory):
    """Three processes that share a cache; each takes seconds to start."""
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
    with serve_hub(files, truncated=truncated, damaged=damaged) as (address, requests):
        first, local = ask(
            address, home, *good, "hf-hub:someone/dogs", "test_vit", "hf-hub:someone/damaged"
        )
        of_the_first = list(requests)
        damaged.clear()
        second, _ = ask(address, home, "hf-hub:someone/damaged")
    third, _ = ask(NOBODY, home, *good, "test_vit", "torchvision:alexnet")
    return Visits(first, second, third, of_the_first, local)


def test_download__arrives_whole_and_is_not_fetched_twice(visits, weights):
    whole = tensors_digest(weights)

    for name in ("test_resnet", "hf-hub:someone/cats"):
        assert visits.first[name] == whole
        assert visits.third[name] == whole, "found on this machine, where nobody can be asked"
    assert any(request.startswith("GET") for request in visits.requests)
    assert "test_resnet" in visits.local


def test_download__a_repository_that_is_not_there_is_named(visits):
    answer = visits.first["hf-hub:someone/dogs"]

    assert answer.startswith("WeightsError: someone/dogs on http://127.0.0.1")


def test_download__a_truncated_file_is_refused(visits):
    answer = visits.first["test_vit"]

    assert answer.startswith("WeightsError: cannot download model.safetensors of timm/test_vit.")
    assert "--weights PATH" in answer
    assert "test_vit" not in visits.local


def test_download__a_file_with_another_digest_is_refused_and_removed(visits, weights):
    refused, fetched_again = (
        visit["hf-hub:someone/damaged"] for visit in (visits.first, visits.second)
    )

    assert refused.startswith("WeightsError: model.safetensors: the downloaded file is damaged")
    assert fetched_again == tensors_digest(weights)


def test_download__an_unreachable_hub_is_one_line_with_advice(visits):
    timms, torchvisions = visits.third["test_vit"], visits.third["torchvision:alexnet"]

    assert timms.startswith(
        f"WeightsError: cannot reach the model hub {NOBODY} to download timm/test_vit."
    )
    for advice in ("-b nano", "--weights PATH", "--weights none", "transferkit backbones --local"):
        assert advice in timms
        assert advice in torchvisions
    assert "\n" not in timms + torchvisions


def test_download__a_classifier_on_features_comes_with_its_network(
    image_folder, tmp_path, monkeypatch
):
    run = transferkit.finetune(
        image_folder, tmp_path / "run", backbone="edges8", strategy="features", classifier="ridge"
    ).run
    files = {f"someone/colours/{p.name}": p.read_bytes() for p in (run / "model").iterdir()}
    picture = str(next((image_folder / "blue").iterdir()))
    known = huggingface_hub.constants
    monkeypatch.setattr(known, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve_hub(files) as (address, seen):
        url = known.HUGGINGFACE_CO_URL_TEMPLATE.replace(known.ENDPOINT, address)
        monkeypatch.setattr(known, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(known, "ENDPOINT", address)
        fetched = transferkit.predict([picture], model="hf-hub:someone/colours")

    assert fetched == transferkit.predict([picture], model=str(run))
    assert any("classifier.skops" in request for request in seen)
