"""Downloads: the ordinary client against a stand-in hub, in a process of its own.

The client reads HF_ENDPOINT and HF_HOME when it is imported, so each case is a fresh process, as it
is for a user.
"""

import json
import os
import subprocess
import sys

import huggingface_hub
import pytest
import safetensors.torch
import torch
from hub import serve_hub

import transferkit
from transferkit.models.backbones import create_network
from transferkit.models.weights import tensors_digest

REPOSITORY = "timm/test_resnet.r160_in1k"
PROGRAM = """
import json, sys
from transferkit.startup import defer_compiler
defer_compiler()  # as the command line does
from transferkit import TransferKitError
from transferkit.models.backbones import create_network
from transferkit.models.catalogue import list_backbones
from transferkit.models.weights import tensors_digest
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
def network():
    torch.manual_seed(0)
    return create_network("test_resnet", weights="none")


@pytest.fixture(scope="module")
def weights(network):
    return safetensors.torch.save(network.module.state_dict())


def ask(endpoint, home, *names):
    """What a fresh process says: a digest or an error for each backbone, then what is local."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *names]
    done = subprocess.run(
        command, env=environment(endpoint, home), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def environment(endpoint, home):
    """Of a process whose hub is `endpoint`, and whose caches begin empty in `home`."""
    return {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "TORCH_HOME": str(home / "torch"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def test_download__arrives_whole_and_is_not_fetched_twice(network, weights, tmp_path):
    expected = tensors_digest(network.module.state_dict())
    config = {
        "architecture": "test_resnet",
        "num_classes": 1000,
        "pretrained_cfg": {"input_size": [3, 160, 160], "num_classes": 1000},
    }
    files = {
        f"{REPOSITORY}/model.safetensors": weights,
        "someone/cats/config.json": json.dumps(config).encode(),
        "someone/cats/model.safetensors": weights,
    }
    names = ("test_resnet", "hf-hub:someone/cats", "hf-hub:someone/dogs")
    with serve_hub(files) as (address, seen):
        first, other, missing, local = ask(address, tmp_path, *names)
        assert any(request.startswith("GET") for request in seen)

    assert [first, other] == [expected, expected]
    assert missing.startswith("WeightsError: someone/dogs on http://127.0.0.1")
    assert "test_resnet" in local
    # The server is gone: a second process finds everything on this machine and asks nobody.
    assert ask(address, tmp_path, *names[:2])[:2] == [expected, expected]


def test_download__a_truncated_file_is_refused(weights, tmp_path):
    with serve_hub({f"{REPOSITORY}/model.safetensors": weights}, truncate=True) as (address, _):
        answer, local = ask(address, tmp_path, "test_resnet")

    assert answer.startswith(f"WeightsError: cannot download model.safetensors of {REPOSITORY}")
    assert "--weights PATH" in answer
    assert local == ["nano", "edges8"]


def test_download__a_file_with_another_digest_is_refused_and_removed(network, weights, tmp_path):
    files = {f"{REPOSITORY}/model.safetensors": weights}
    with serve_hub(files, wrong_digest=True) as (address, _):
        answer, _ = ask(address, tmp_path, "test_resnet")
    assert answer.startswith("WeightsError: model.safetensors: the downloaded file is damaged")

    with serve_hub(files) as (address, _):
        answer, _ = ask(address, tmp_path, "test_resnet")
    assert answer == tensors_digest(network.module.state_dict())


def test_download__an_unreachable_hub_is_one_line_with_advice(tmp_path):
    answer, url, local = ask("http://127.0.0.1:9", tmp_path, "test_resnet", "torchvision:alexnet")

    assert answer.startswith(
        f"WeightsError: cannot reach the model hub http://127.0.0.1:9 to download {REPOSITORY}"
    )
    for advice in ("-b nano", "--weights PATH", "--weights none", "transferkit backbones --local"):
        assert advice in answer
        assert advice in url
    assert "\n" not in answer + url
    assert local == ["nano", "edges8"]


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
