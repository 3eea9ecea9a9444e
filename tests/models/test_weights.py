"""Weights files: read without running code, and either loaded completely or refused."""

import pytest
import safetensors.torch
import torch
from torch import nn
from untrained import create_tiled

from transferkit.errors import WeightsError
from transferkit.models.create_network import create_network
from transferkit.models.digests import tensors_digest
from transferkit.models.weights import translate_layout


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(1)
    return create_network("test_resnet", weights="none")


def backbone_of(network):
    heads = tuple(f"{head}." for head in network.heads)
    return {k: v for k, v in network.module.state_dict().items() if not k.startswith(heads)}


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_create_network__reads_both_kinds_of_file(resnet, tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    state = resnet.module.state_dict()
    if suffix == "pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        safetensors.torch.save_file(state, path)

    network = create_network("test_resnet", weights=path, num_classes=3)

    assert tensors_digest(backbone_of(network)) == tensors_digest(backbone_of(resnet))


def test_create_network__takes_weights_whose_head_has_another_width(resnet, tmp_path):
    torch.manual_seed(2)
    narrow = create_network("test_resnet", weights="none", num_classes=37)
    safetensors.torch.save_file(narrow.module.state_dict(), tmp_path / "w.safetensors")

    network = create_network("test_resnet", weights=tmp_path / "w.safetensors", num_classes=3)

    assert tensors_digest(backbone_of(network)) == tensors_digest(backbone_of(narrow))
    with pytest.raises(WeightsError, match=r"2 of another shape: fc\.weight"):
        create_network("test_resnet", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("torchvision:vgg11", "vgg11"),
        ("torchvision:densenet121", "densenet121"),
        ("torchvision:convnext_tiny", "convnext_tiny"),
        ("convnext_tiny", "torchvision:convnext_tiny"),
    ],
)
@torch.no_grad()
def test_create_network__adapts_the_other_librarys_layout(theirs, ours, tmp_path):
    images = torch.rand(1, 3, 224, 224)
    source = create_tiled(theirs)
    safetensors.torch.save_file(source.module.state_dict(), tmp_path / "w.safetensors")

    network = create_network(ours, weights=tmp_path / "w.safetensors")

    torch.testing.assert_close(network.module(images), source.module(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_translate_layout__is_refused_when_the_features_differ():
    """Networks that match tensor by tensor but compute something else are refused."""
    other = create_network("torchvision:resnet18", weights="none")
    network = create_network("resnet18", weights="none")
    network.module.layer1 = nn.Sequential(*reversed(network.module.layer1), nn.Tanh())

    assert translate_layout(dict(other.module.state_dict()), other, network) is None


def test_create_network__names_tensors_that_do_not_fit(resnet, tmp_path):
    state = dict(resnet.module.state_dict())
    state["surplus.weight"] = torch.zeros(1)
    state["layer1.0.conv1.weight"] = torch.zeros(2, 2)
    del state["conv1.0.weight"], state["bn1.num_batches_tracked"]
    torch.save(state, tmp_path / "w.pth")

    with pytest.raises(WeightsError) as error:
        create_network("test_resnet", weights=tmp_path / "w.pth", num_classes=2)

    expected = tuple(resnet.module.state_dict()["layer1.0.conv1.weight"].shape)
    assert str(error.value) == (
        f"{tmp_path}/w.pth: these weights are not test_resnet's: "
        "1 missing: conv1.0.weight; 1 not in the network: surplus.weight; "
        f"1 of another shape: layer1.0.conv1.weight (2, 2), expected {expected}. "
        "Name the backbone that they belong to with --backbone"
    )


def test_create_network__refuses_another_architecture(resnet, tmp_path):
    torch.save(resnet.module.state_dict(), tmp_path / "w.pth")

    with pytest.raises(WeightsError, match=r"these weights are not test_vit's: .* missing: ") as e:
        create_network("test_vit", weights=tmp_path / "w.pth", num_classes=2)
    assert str(e.value).count(" more") == 2, "five names of each kind, and the number of the others"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_create_network__refuses_numbers_that_are_not_finite(resnet, tmp_path, value):
    state = {name: tensor.clone() for name, tensor in resnet.module.state_dict().items()}
    state["fc.weight"][0, 0] = value
    torch.save(state, tmp_path / "head.pth")
    state["bn1.running_var"][3] = value
    torch.save(state, tmp_path / "both.pth")

    create_network("test_resnet", weights=tmp_path / "head.pth", num_classes=2)
    with pytest.raises(WeightsError, match=r"both\.pth: not finite .* tensors: bn1\.running_var; "):
        create_network("test_resnet", weights=tmp_path / "both.pth", num_classes=2)
    with pytest.raises(WeightsError, match=r"in 2 of \d+ tensors: bn1\.running_var, fc\.weight; "):
        create_network("test_resnet", weights=tmp_path / "both.pth")


@pytest.mark.parametrize("prefix", ["backbone.", "model.", "module.model.", "net.encoder."])
@pytest.mark.parametrize("outside", [(), ("criterion.weight", "n_averaged")])
def test_create_network__removes_the_prefix_of_a_wrapped_network(resnet, tmp_path, prefix, outside):
    state = {f"{prefix}{name}": tensor for name, tensor in resnet.module.state_dict().items()}
    state |= {name: torch.ones(5) for name in outside}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4"}, tmp_path / "w.ckpt")

    network = create_network("test_resnet", weights=tmp_path / "w.ckpt")

    assert tensors_digest(network.module.state_dict()) == tensors_digest(resnet.module.state_dict())
    assert network.weights_note == (
        f"{tmp_path}/w.ckpt: the tensors under {prefix} were read, "
        "criterion.weight, n_averaged left out"
        if outside
        else ""
    )


def test_create_network__takes_a_wrapped_backbone_with_a_head_of_its_own(resnet, tmp_path):
    """As many training programs build it: the backbone, and a classifier beside it."""
    state = {f"backbone.{name}": tensor for name, tensor in backbone_of(resnet).items()}
    torch.save(state | {"classifier.weight": torch.ones(7, 3)}, tmp_path / "w.pth")

    network = create_network("test_resnet", weights=tmp_path / "w.pth", num_classes=3)

    assert tensors_digest(backbone_of(network)) == tensors_digest(backbone_of(resnet))
    assert "classifier.weight left out" in network.weights_note


def test_create_network__says_that_it_reads_the_average(resnet, tmp_path):
    state = resnet.module.state_dict()
    averaged = {f"module.{name}": tensor for name, tensor in state.items()}
    raw = {name: tensor * 0 for name, tensor in state.items()}
    torch.save({"model": raw, "model_ema": averaged | {"n_averaged": torch.tensor(7)}},
               tmp_path / "w.pth")  # fmt: skip

    network = create_network("test_resnet", weights=tmp_path / "w.pth")

    assert tensors_digest(network.module.state_dict()) == tensors_digest(state)
    assert network.weights_note == (
        f"{tmp_path}/w.pth: the averaged weights, model_ema, were read; the tensors under "
        "module. were read, n_averaged left out"
    )


def test_create_network__refuses_to_choose_between_two_networks_in_one_file(resnet, tmp_path):
    state = resnet.module.state_dict()
    both = {f"{prefix}.{name}": t for prefix in ("query", "key") for name, t in state.items()}
    torch.save(both, tmp_path / "w.pth")

    with pytest.raises(WeightsError, match=r"in it 2 times, under key\., query\.; save the ones"):
        create_network("test_resnet", weights=tmp_path / "w.pth")


def test_create_network__names_the_prefix_that_fits_best(resnet, tmp_path):
    state = {f"trunk.{name}": tensor for name, tensor in resnet.module.state_dict().items()}
    del state["trunk.conv1.0.weight"]
    torch.save(state | {"extra": torch.ones(1)}, tmp_path / "w.pth")

    with pytest.raises(WeightsError) as error:
        create_network("test_resnet", weights=tmp_path / "w.pth")

    assert (
        f"under the prefix trunk., which fits best, {len(state)} fit; 1 missing: conv1.0.weight."
    ) in str(error.value)


def test_create_network__adapts_a_wrapped_file_in_the_other_librarys_layout(tmp_path):
    source = create_tiled("torchvision:densenet121")
    state = {f"net.{name}": tensor for name, tensor in source.module.state_dict().items()}
    torch.save({"state_dict": state | {"loss.weight": torch.ones(3)}}, tmp_path / "w.ckpt")

    network = create_network("densenet121", weights=tmp_path / "w.ckpt")

    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(
            network.module(images), source.module(images), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18"])
def test_create_network__with_real_weights_knows_imagenet(shared, name):
    """An image of a tench is classified as a tench."""
    import transferkit

    (prediction,) = transferkit.predict(
        str(shared / "data/imagenet_sample/n01440764_tench.jpg"),
        backbone=name,
        weights=str(shared / "weights/resnet18.safetensors"),
    )

    assert prediction.label == "tench"
