"""`inspect`: as a function on a run, and its drawings of kernels and feature maps."""

import numpy as np
import pytest
from image_files import save_image
from PIL import Image
from tiny_backbone import TINY

import transferkit
from transferkit.errors import DataError, OptionError, OutputError


def pixels_of(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_inspect__of_a_run_returns_rows_and_a_drawing(run_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = transferkit.inspect(model=run_folder, kernels=True)
    rows = {row.name: row for row in found.layers}

    assert found.input_size == (3, 32, 32)
    assert rows["fc"].output == (3,)
    assert found.weights + found.biases == sum(row.parameters for row in found.counted)
    (drawing,) = found.drawings
    assert str(drawing.path) == "inspect/colours/kernels.png"
    assert pixels_of(drawing.path).shape[1] > 500


def test_activations__are_one_file_per_stage_or_named_layer(cli, image_folder, tmp_path):
    image = image_folder / "red/0.png"
    tiny = ("test_resnet", *TINY[2:], "--activations", image)
    stages = cli("inspect", *tiny, "-o", tmp_path / "a")
    named = cli("inspect", *tiny, "--layer", "layer1", "--layer", "layer2", "-o", tmp_path / "b")

    assert stages.code == named.code == 0
    written = [line.split(": ")[0] for line in stages.out.splitlines()]
    assert written[:2] == [f"{tmp_path}/a/0-stem.png", f"{tmp_path}/a/0-stage1.png"]
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["0-layer1.png", "0-layer2.png"]
    assert " channels 8 x 8 of layer1\n" in named.out


def test_activations__of_a_rotated_image_are_upright(tmp_path):
    image = Image.new("RGB", (60, 60), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 60, 30))  # the upper half is white ...
    exif = Image.Exif()
    exif[0x0112] = 6  # ... and belongs on the right
    image.save(tmp_path / "turned.jpg", exif=exif)
    where = tmp_path / "out"
    options = {"layer": ("stem",), "image_size": 32, "channels": 1, "weights": "none"}
    (drawing,) = transferkit.inspect(
        "test_resnet", activations=tmp_path / "turned.jpg", output=where, **options
    ).drawings
    pixels = pixels_of(drawing.path)
    shown = (pixels == pixels[:, :, :1]).all(axis=2) & (pixels[:, :, 0] < 40)
    dark = np.argwhere(shown[80:])  # below the title
    left, right = np.unique(dark[:, 1]).min(), np.unique(dark[:, 1]).max()

    assert 0 < left < right < pixels.shape[1] // 2
    assert (right - left) < 0.6 * np.ptp(np.unique(dark[:, 0]))


def test_activations__that_cannot_be_drawn_are_errors(tmp_path):
    save_image(tmp_path / "a.png", (1, 2, 3), seed=0)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (tmp_path / "file").write_text("in the way")
    small = {"weights": "none", "image_size": 32, "output": tmp_path / "out"}

    def draw(image="a.png", **options):
        transferkit.inspect("test_resnet", activations=tmp_path / image, **small | options)

    with pytest.raises(DataError, match=r"broken\.jpg: .+; name another image"):
        draw("broken.jpg")
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        draw("none.png")
    with pytest.raises(OptionError, match="prelogits of test_resnet has one position"):
        draw(layer=("prelogits",))
    with pytest.raises(transferkit.TransferKitError, match="unknown layer 'stage9'; did you mean"):
        draw(layer=("stage9",))
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match=r"cannot write .*file/"):
        draw(output=tmp_path / "file")


def test_activations__depend_on_the_weights_file(shared, tmp_path):
    image = shared / "data/cats/Siamese/Siamese_100.jpg"
    words = {"activations": image, "layer": ("stage2",), "channels": 4, "output": tmp_path}
    words |= {"overwrite": True}
    shown = []
    for weights in ("none", str(shared / "weights/resnet18.safetensors")):
        (drawing,) = transferkit.inspect("resnet18", weights=weights, **words).drawings
        shown.append((drawing.shows, pixels_of(drawing.path)))

    assert drawing.path == tmp_path / "Siamese_100-stage2.png"
    assert shown[0][0] == shown[1][0] == "4 of 128 channels 28 x 28 of stage2"
    assert (shown[0][1] != shown[1][1]).any()
