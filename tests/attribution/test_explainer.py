"""Explanations point at the evidence for every kind of network, layer and classifier."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from transferkit.attribution import Method
from transferkit.attribution.explainer import Explainer
from transferkit.bundle import FeatureHead, ModelBundle
from transferkit.errors import OptionError, UnknownNameError
from transferkit.models.create_network import create_network
from transferkit.models.feature_extractor import Pool

SIDE, CORNER = 96, 32
CLASSES = ("red", "green")


def bundle_of(name: str, weights: str = "none", size: int | None = None, head=None) -> ModelBundle:
    """Return a frozen network, as a partial run leaves it, whose head has no zero weights."""
    torch.manual_seed(0)
    network = create_network(name, weights=weights)
    if size:
        network = network.with_preprocessing(
            network.preprocessing.changed(image_size=size, resize=None)
        )
    network = network.with_new_head(0 if head else 3)
    for parameter in network.module.parameters():
        parameter.requires_grad_(False)
    for layer in [] if head else [network.module.get_submodule(name) for name in network.heads]:
        nn.init.normal_(layer.weight, std=0.1)
    return ModelBundle(network, ("a", "b", "c"), head=head)


def noise(bundle: ModelBundle, count: int = 3) -> torch.Tensor:
    shape = (count, *bundle.network.preprocessing.input_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def squares():
    """Return Lite0 with a logistic regression that detects a red or a green square in a corner.

    With it come held-out images (16, 3, 96, 96), normalised, and their labels.
    """
    network = create_network("tf_efficientnet_lite0")
    network = network.with_preprocessing(
        network.preprocessing.changed(image_size=SIDE, resize=None)
    )
    random = np.random.default_rng(0)
    pixels = random.uniform(0.3, 0.7, (48, 3, SIDE, SIDE)).astype(np.float32)
    labels = np.arange(48) % 2
    for image, label in zip(pixels, labels, strict=True):
        top, left = random.choice([4, SIDE - CORNER - 4], 2)
        square = image[:, top : top + CORNER, left : left + CORNER]
        square[:] = 0.05
        square[label] = 0.95
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in (network.preprocessing.mean, network.preprocessing.std)
    )
    images = (torch.from_numpy(pixels) - mean) / std
    bundle = ModelBundle(network, CLASSES)
    with torch.no_grad():
        rows = bundle.extractor(images).double().numpy()
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(
        rows[:32], labels[:32]
    )
    head = FeatureHead(classifier, ("pooled",), Pool.AUTO)
    assert classifier.score(rows[32:], labels[32:]) == 1
    return ModelBundle(network, CLASSES, head=head), images[32:], torch.from_numpy(labels[32:])


@pytest.fixture(scope="module")
def detector():
    """Return a network whose weights detect red as one class and green as the other.

    With it come an image of each class (2, 3, 128, 128), and the mask of its colour.
    """
    network = create_network("edges8").with_new_head(2)
    module = network.module
    sums = module.head.weight.shape[1] // 8
    with torch.no_grad():
        module.kernels.weight.zero_()
        module.kernels.weight[0, :, 1, 1] = torch.tensor([1.0, -1, 0])
        module.kernels.weight[1, :, 1, 1] = torch.tensor([-1.0, 1, 0])
        module.head.weight.zero_()
        module.head.weight[0, :sums] = module.head.weight[1, sums : 2 * sums] = 0.003
    grey = torch.rand(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    images = grey.repeat(1, 3, 1, 1)
    inside = np.zeros((2, 128, 128), dtype=bool)
    inside[0, 10:42, 80:112] = inside[1, 70:102, 20:52] = True
    for label in (0, 1):
        images[label][:, inside[label]] = 0.1
        images[label][label, inside[label]] = 1.0
    return ModelBundle(network, CLASSES), images, inside


@pytest.mark.parametrize(
    ("method", "share"),
    [
        (Method.GRAD_CAM, 0.9),
        (Method.SALIENCY, 0.999),
        (Method.INTEGRATED_GRADIENTS, 0.999),
        (Method.OCCLUSION, 0.5),  # its squares reach beyond the edge of the colour
    ],
)
def test_maps__are_concentrated_on_the_evidence(detector, method, share):
    bundle, images, inside = detector
    explainer = Explainer(bundle, method)
    maps = explainer.maps(images, torch.tensor([0, 1]))

    assert maps.shape == (2, 128, 128)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert ((maps * inside).sum(axis=(1, 2)) / maps.sum(axis=(1, 2)) > share).all()
    if method in (Method.GRAD_CAM, Method.OCCLUSION):
        others = explainer.maps(images, torch.tensor([1, 0]))
        assert others.max() < 1e-6  # there is no evidence for the other colour


def test_maps__hot_squares_lose_the_class_sooner_when_hidden_than_random_ones(squares):
    """The deletion curve of RISE (Petsiuk et al., BMVC 2018), in squares of 16 pixels."""
    bundle, images, labels = squares
    explainer = Explainer(bundle, layer="stage4")  # a map of 6 x 6
    images, labels = images[:10], labels[:10]
    heats = explainer.maps(images, labels)
    random, gains = np.random.default_rng(0), []
    for image, label, heat in zip(images, labels, heats, strict=True):
        order = heat.reshape(6, 16, 6, 16).mean(axis=(1, 3)).ravel().argsort()[::-1]
        areas = []
        for hidden in (order, random.permutation(36)):
            views = image.repeat(10, 1, 1, 1)  # each hides four more squares than the one before
            for step, square in enumerate(hidden):
                top, left = 16 * (square // 6), 16 * (square % 6)
                views[step // 4 + 1 :, :, top : top + 16, left : left + 16] = 0
            areas.append(float(explainer.probabilities(views)[:, label].mean()))
        gains.append(areas[1] - areas[0])

    assert np.mean(gains) > 0.05
    assert np.mean(np.array(gains) > 0) > 0.75


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "test_convnext", "torchvision:squeezenet1_1"]
)
@pytest.mark.parametrize("method", [Method.GRAD_CAM, Method.SALIENCY, Method.INTEGRATED_GRADIENTS])
def test_maps__depend_on_one_image_and_leave_the_model_unchanged(name, method):
    bundle = bundle_of(name, size=64 if "test" not in name or "vit" not in name else None)
    module, images = bundle.network.module, noise(bundle)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    explainer = Explainer(bundle, method)
    with torch.inference_mode():  # as callers may do
        maps = explainer.maps(images, torch.tensor([0, 1, 2]))
    alone = explainer.maps(images[1:2], torch.tensor([1]))

    assert maps.max() > 0
    np.testing.assert_allclose(maps[1], alone[0], rtol=1e-3, atol=1e-4 * alone.max())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m.training for m in module.modules())
    assert not images.requires_grad


def test_maps__of_grad_cam_follow_its_formula():
    """On a ResNet: the last map, weighted by its gradients' means and summed, then ReLU."""
    bundle = bundle_of("test_resnet", size=64)
    module, images = bundle.network.module, noise(bundle, 1)
    with torch.no_grad():
        features = module.forward_features(images)
    features.requires_grad_()
    module.forward_head(features)[0, 2].backward()
    weights = features.grad.mean(dim=(2, 3), keepdim=True)
    coarse = (weights * features).sum(dim=1, keepdim=True).relu()
    expected = nn.functional.interpolate(coarse, (64, 64), mode="bilinear").detach()[0]

    maps = Explainer(bundle).maps(images, torch.tensor([2]))
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


def test_maps__of_a_linear_classifier_are_those_of_the_same_linear_head():
    """For two classes, its log-odds differ from the head's logits only by a factor."""
    random = np.random.default_rng(0)
    bundle = bundle_of("test_resnet", size=64, head=FeatureHead(None, ("pooled",), Pool.AUTO))
    rows = bundle.extractor(noise(bundle, 16)).numpy()
    classifier = LogisticRegression().fit(rows, random.permutation(16) % 2)
    fitted = ModelBundle(
        bundle.network, ("a", "b"), head=FeatureHead(classifier, ("pooled",), Pool.AUTO)
    )
    maps = Explainer(fitted).maps(noise(bundle, 2), torch.tensor([1, 1]))
    features = bundle.network.module.forward_features(noise(bundle, 2)).detach()
    weights = torch.from_numpy(classifier.coef_[0]).float().view(1, -1, 1, 1)
    area = features.shape[2] * features.shape[3]
    coarse = (weights / area * features).sum(dim=1, keepdim=True).relu()
    expected = nn.functional.interpolate(coarse, (64, 64), mode="bilinear")[:, 0]

    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "pool"),
    [(("stage2", "pooled"), Pool.AVG), (("stage3",), Pool.FLATTEN), (("prelogits",), Pool.AUTO)],
)
def test_maps__explain_a_classifier_on_any_layers(layers, pool):
    plain = bundle_of("test_resnet", size=32, head=FeatureHead(None, layers, pool))
    rows = plain.extractor(noise(plain, 12)).numpy()
    classifier = LogisticRegression(max_iter=1000).fit(rows, np.arange(12) % 3)
    bundle = ModelBundle(plain.network, ("a", "b", "c"), head=FeatureHead(classifier, layers, pool))

    assert Explainer(bundle).maps(noise(plain), torch.tensor([0, 1, 2])).max() > 0
    if layers == ("stage3",):
        with pytest.raises(
            OptionError, match=r"--layer: stage4 .*choose one of stem, stage1, stage2, stage3,"
        ):
            Explainer(bundle, layer="stage4")


def test_explainer__refuses_layers_it_cannot_explain():
    bundle = bundle_of("test_resnet", size=32)
    with pytest.raises(UnknownNameError, match="unknown layer 'stagg3'; did you mean stage3"):
        Explainer(bundle, layer="stagg3")
    with pytest.raises(OptionError, match="--layer: fc of test_resnet has no feature map"):
        Explainer(bundle, layer="fc")
    with pytest.raises(OptionError, match="--layer is for --method gradcam, got saliency"):
        Explainer(bundle, Method.SALIENCY, "stage3")


def test_explainer__explains_k_nearest_neighbours_only_by_occlusion():
    classifier = make_pipeline(StandardScaler(), KNeighborsClassifier(3))
    plain = bundle_of("test_resnet", size=32, head=FeatureHead(classifier, ("pooled",), Pool.AUTO))
    classifier.fit(plain.extractor(noise(plain, 12)).numpy(), np.arange(12) % 3)
    with pytest.raises(OptionError, match=r"k-nearest neighbours have none.*--method occlusion"):
        Explainer(plain)

    maps = Explainer(plain, Method.OCCLUSION).maps(noise(plain, 2), torch.tensor([0, 1]))
    assert maps.shape == (2, 32, 32)


def test_explainer__bears_that_another_thread_fails_to_import_ipython(tmp_path):
    """MLflow imports it in the thread of its tracker, and captum a module of it."""
    package = tmp_path / "IPython"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import threads\n"
        "threads.package.set()\n"
        "threads.module.wait(2)  # in vain if nobody imports the module before the package\n"
        "raise ImportError('it was imported by two threads')\n"
    )
    (package / "display.py").write_text(
        "import threads\nthreads.module.set()\nthreads.other.join()\ndisplay = HTML = print\n"
    )
    (tmp_path / "threads.py").write_text(
        "from importlib import import_module\n"
        "from threading import Event, Thread\n"
        "package, module = Event(), Event()\n"
        "other = Thread(target=import_module, args=['IPython'])\n"
    )
    program = (
        "import torch, threads\n"
        "from transferkit.attribution.explainer import Explainer\n"
        "from transferkit.bundle import ModelBundle\n"
        "from transferkit.models.create_network import create_network\n"
        "network = create_network('test_resnet', weights='none').with_new_head(2)\n"
        "explainer = Explainer(ModelBundle(network, ('a', 'b')))\n"
        "threads.other.start()\n"
        "threads.package.wait()\n"
        "print(explainer.maps(torch.zeros(1, 3, 64, 64), torch.tensor([0])).shape)\n"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )

    assert ran.stdout == "(1, 64, 64)\n", ran.stderr
