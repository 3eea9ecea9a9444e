"""Images that are not square, and networks of one channel, through training and every loader."""

import json

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from image_files import make_classes
from PIL import Image

import transferkit
from transferkit.errors import BundleError
from transferkit.models.create_network import create_network

ARCHITECTURES = (
    *("test_resnet", "test_vit", "swin_tiny_patch4_window7_224", "convnext_atto"),
    *("mobilenetv3_small_050", "pvt_v2_b0"),
)
"""One of each kind; those that were tried by hand behave as these."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = make_classes(tmp_path_factory.mktemp("shapes") / "data", 4)
    return root, [str(root / name / "3.png") for name in ("blue", "green", "red")]


def timms_own(model, files):
    """Return the size of the images and the probabilities when timm loads a model."""
    module = timm.create_model(f"local-dir:{model}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(module)
    transform = timm.data.create_transform(**config, is_training=False)
    images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    with torch.no_grad():
        return images.shape[2:], module(images).softmax(1).numpy()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_image_size__of_any_shape_is_stored_with_the_model(name, files, tmp_path):
    root, images = files
    transferkit.finetune(
        root, tmp_path / "run", backbone=name, weights="none", image_size="96x160", epochs=1,
        report=False,
    )  # fmt: skip
    config = json.loads((tmp_path / "run/model/config.json").read_text())
    predicted = transferkit.predict(images, model=tmp_path / "run", top_k=3)
    shape, expected = timms_own(tmp_path / "run/model", images)

    assert config["pretrained_cfg"]["input_size"] == [3, 96, 160]
    assert json.loads((tmp_path / "run/options.json").read_text())["image_size"] == [96, 160]
    assert shape == (96, 160)
    for prediction, row in zip(predicted, expected, strict=True):
        found = [dict(prediction.top)[label] for label in ("blue", "green", "red")]
        assert np.allclose(found, row, atol=1e-5)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_explain__draws_maps_of_the_shape_of_the_images(name, files, tmp_path):
    def sheet_size(image_size):
        network = create_network(name, weights="none", num_classes=3, image_size=image_size)
        folder = tmp_path / str(image_size)
        transferkit.ModelBundle(network, ("a", "b", "c")).save(folder)
        (one,) = transferkit.explain(files[1][0], model=folder, output=tmp_path / "why",
                                     overwrite=True)  # fmt: skip
        with Image.open(one.drawing) as sheet:
            return sheet.size

    (width, height), (square_width, square_height) = sheet_size((96, 160)), sheet_size(96)

    assert width / height > 1.2 * square_width / square_height


def test_inspect__computes_sizes_for_images_that_are_not_square():
    found = transferkit.inspect("test_resnet", image_size=(96, 160))
    layers = [row for row in found.layers if row.role == "layer"]

    assert found.input_size == (3, 96, 160)
    assert any(row.agrees for row in layers)
    assert all(row.agrees in (None, True) for row in layers)


@torch.no_grad()
def test_weights__with_position_embeddings_fit_images_of_another_shape(tmp_path):
    network = create_network("test_vit", weights="none")
    safetensors.torch.save_file(network.module.state_dict(), tmp_path / "w.safetensors")

    wide = create_network(
        "test_vit", weights=tmp_path / "w.safetensors", num_classes=2, image_size=(96, 160)
    )

    assert wide.module.pos_embed.shape != network.module.pos_embed.shape
    ours, theirs = (one.module.blocks[0].attn.qkv.weight for one in (wide, network))
    assert torch.equal(ours, theirs)
    assert wide.module(wide.blank_image()).shape == (1, 2)


def save_timm(folder, *, channels, config=None, model_args=None, labels=None):
    """Write a model as timm does, and return its module."""
    module = timm.create_model("test_resnet", in_chans=channels, num_classes=3)
    folder.mkdir()
    safetensors.torch.save_file(module.state_dict(), folder / "model.safetensors")
    pretrained = {"input_size": [channels, 48, 48], "mean": [0.5] * channels,
                  "std": [0.25] * channels, "num_classes": 3, "crop_pct": 1.0}  # fmt: skip
    content = {"architecture": "test_resnet", "num_classes": 3,
               "pretrained_cfg": pretrained | (config or {})}  # fmt: skip
    content |= {"model_args": model_args} if model_args else {}
    content |= {"label_names": labels} if labels is not None else {}
    (folder / "config.json").write_text(json.dumps(content))
    return module.eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "model_args"),
    [
        ({}, {"in_chans": 1}),
        ({}, None),
        ({"input_size": [3, 48, 48]}, {"in_chans": 1}),
        ({"mean": [0.4, 0.5, 0.6], "std": [0.25] * 3}, {"in_chans": 1}),
        ({"mean": 0.5, "std": 0.25}, {"in_chans": 1}),
    ],
)
def test_one_channel__is_the_luma_of_the_image(config, model_args, tmp_path):
    module = save_timm(tmp_path / "m", channels=1, config=config, model_args=model_args)
    bundle = transferkit.ModelBundle.load(tmp_path / "m")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)

    found = bundle.predict_proba(pixels)

    luma = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    grey = torch.from_numpy((luma / 255 - 0.5) / 0.25).float()[None, None]
    assert np.allclose(found, module(grey).softmax(1).numpy(), atol=1e-5)


def test_one_channel__is_trained_and_explained_as_well(files, tmp_path):
    save_timm(tmp_path / "m", channels=1, model_args={"in_chans": 1})
    root, images = files
    transferkit.finetune(
        root, tmp_path / "run", backbone=f"local-dir:{tmp_path}/m", epochs=1, unfreeze="last:1",
        augment="strong", resize="pad",
    )  # fmt: skip
    (explained, *_) = transferkit.explain(images, model=tmp_path / "run", output=tmp_path / "why")
    features = transferkit.extract_features(root, tmp_path / "f.npz", model=tmp_path / "run")

    assert explained.error is None
    assert features.shape[0] == 12


@pytest.mark.parametrize("channels", [2, 4])
def test_load__refuses_channels_that_images_lack(channels, tmp_path):
    save_timm(tmp_path / "m", channels=channels, model_args={"in_chans": channels})

    with pytest.raises(BundleError, match=f"takes {channels} channels, but images have three or"):
        transferkit.ModelBundle.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a", "b", "c"], ("a", "b", "c")),
        ({"n3": "a", "n1": "b", "n2": "c"}, ("a", "b", "c")),
        ({"2": "c", "0": "a", "1": "b"}, ("a", "b", "c")),
        ({"2": "c", "0": "a"}, ("a", "1", "c")),
        ([7, 8, 9], ("7", "8", "9")),
    ],
)
def test_load__reads_names_as_a_list_or_a_table(labels, expected, tmp_path):
    save_timm(tmp_path / "m", channels=3, labels=labels)

    assert transferkit.ModelBundle.load(tmp_path / "m").class_names == expected


def test_predict__numbers_classes_without_names_and_says_so(files, tmp_path, cli):
    save_timm(tmp_path / "m", channels=3)

    ran = cli("predict", files[1][0], "-m", tmp_path / "m")

    assert json.loads(ran.out)["label"] in ("0", "1", "2")
    assert "names no classes, so the labels are the numbers of its outputs, 0 to 2" in ran.err


def test_predict__has_an_error_for_scores_that_are_not_finite(files, tmp_path, cli):
    network = create_network("test_resnet", weights="none", num_classes=3, image_size=32)
    with torch.no_grad():
        network.module.fc.weight.fill_(3e38)
        network.module.fc.bias.fill_(3e38)
    transferkit.ModelBundle(network, ("a", "b", "c")).save(tmp_path / "model")

    ran = cli("predict", *files[1], "-m", tmp_path / "model")
    evaluated = cli("evaluate", files[0], "-m", tmp_path / "model")

    assert ran.code == 3
    records = [json.loads(line, parse_constant=pytest.fail) for line in ran.out.splitlines()]
    assert [record["status"] for record in records] == ["error"] * 3
    assert "is not finite (NaN or infinity)" in records[0]["error"]
    assert evaluated.code == 1
    explained = transferkit.explain(files[1], model=tmp_path / "model", output=tmp_path / "why")
    assert all("not finite" in one.error for one in explained)
