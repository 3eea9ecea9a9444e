"""The backbone that comes with the package: complete, small, and loaded like any other."""

import json
import socket
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import transferkit
from transferkit.models import NANO
from transferkit.models.backbone_lookup import embedded_folders
from transferkit.models.create_network import create_network
from transferkit.models.digests import tensors_digest
from transferkit.sklearn import BackboneFeatures

FOLDER = embedded_folders()[NANO]


@pytest.fixture
def no_network(monkeypatch):
    """Make any attempt to connect an error."""

    def refuse(*_):
        raise AssertionError("a connection was tried")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_nano__is_small_and_as_its_configuration_describes():
    config = json.loads((FOLDER / "config.json").read_text("utf-8"))
    made = config["pretraining"]
    weights = load_file(FOLDER / "model.safetensors")
    floating = [tensor for tensor in weights.values() if tensor.is_floating_point()]

    assert made["digest"] == tensors_digest(weights)
    assert made["steps"] == made["epochs"] * (made["programs"] // made["batch"]) > 0
    assert {"script", "seed"} <= made.keys()
    assert config["model_args"]  # which distinguish it from timm's network of the same architecture
    assert {tensor.dtype for tensor in floating} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in floating)
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 6e6


def test_nano__keeps_its_pooling_with_a_timm_that_would_reset_it(monkeypatch):
    reset = timm.models.ResNet.reset_classifier

    def reset_to_mean(self, num_classes, global_pool="avg"):
        reset(self, num_classes, global_pool)

    monkeypatch.setattr(timm.models.ResNet, "reset_classifier", reset_to_mean)

    assert create_network(NANO, num_classes=3).module.fc.in_features == 2 * 384
    assert create_network(NANO, num_classes=0).feature_dim == 2 * 384


def test_nano__has_the_stages_of_any_backbone_and_needs_no_network(no_network):
    network = create_network(NANO, num_classes=3)

    assert [stage.name for stage in network.stages] == [
        "stem", "stage1", "stage2", "stage3", "stage4", "head",
    ]  # fmt: skip
    assert 1e6 < sum(p.numel() for p in network.module.parameters()) < 3e6
    assert network.module(network.blank_image()).shape == (1, 3)
    assert network.dtype == torch.float32


def test_nano__can_be_loaded_by_timm():
    theirs = timm.create_model(f"local-dir:{FOLDER}", pretrained=True).eval()
    ours = create_network(NANO)
    images = torch.randn(2, *ours.preprocessing.input_size)

    with torch.inference_mode():
        assert torch.equal(theirs(images), ours.features(images))


def test_nano__is_never_called_pretrained_on_imagenet(pages, few_images, tmp_path, no_network):
    options = {"backbone": NANO, "image_size": 64, "epochs": 1}
    result = transferkit.finetune(few_images, tmp_path / "run", **options)
    settings = dict(result.plan.settings)

    assert settings["weights"] == "pretrained on synthetic images, not on ImageNet"
    assert settings["backbone"] == create_network(f"local-dir:{result.run}/model").name == NANO
    config = json.loads((result.run / "model/config.json").read_text("utf-8"))
    assert config["architecture"] == "resnet18"
    assert config["transferkit"]["backbone"] == NANO
    page = (result.run / "report.html").read_text("utf-8")
    assert NANO in page
    assert "resnet18" not in page
    assert transferkit.predict([few_images], model=str(result.run))
    table = transferkit.extract_features(few_images, tmp_path / "f.npz", model=str(result.run))
    assert table.backbone == NANO
    with pytest.raises(transferkit.TransferKitError, match="it has no head"):
        list(transferkit.predict([few_images], backbone=NANO))


def test_nano__features_are_better_than_untrained_ones():
    files = sorted((Path(__file__).parents[2] / "sample_data" / "cats").rglob("*.jpg"))[::2]
    labels = [path.parent.name for path in files]

    def accuracy(weights):
        torch.manual_seed(0)
        features = BackboneFeatures(NANO, weights=weights, image_size=128).fit_transform(files)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        return cross_val_score(probe, features, labels).mean()

    assert accuracy("pretrained") > accuracy("none") + 0.1
