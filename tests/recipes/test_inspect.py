"""`inspect`: the table in a terminal and a pipe, and drawings of kernels and feature maps."""

import csv
import io

import numpy as np
import pytest
from conftest import TINY, save_picture
from PIL import Image
from rich.console import Console

import transferkit
from transferkit.errors import DataError, OptionError, OutputError
from transferkit.models.sources import create_network
from transferkit.report.exhibits import draw_kernels, draw_maps, strongest_channels


def pixels_of(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def table_of(text: str) -> dict[str, dict[str, str]]:
    return {row["layer"]: row for row in csv.DictReader(io.StringIO(text))}


def test_inspect__in_a_pipe_is_csv_and_says_what_agrees_beside_it(cli):
    ran = cli("inspect", "test_resnet", "--image-size", 64)
    rows = table_of(ran.out)
    network = create_network("test_resnet", weights="none")
    total = sum(p.numel() for p in network.module.parameters())
    counted = [row for row in rows.values() if row["role"] in ("layer", "parameter")]

    assert ran.code == 0
    assert list(rows)[:4] == ["pooled", "prelogits", "stem", "stage1"]
    first = rows["conv1.0"]
    assert (first["kind"], first["kernel"], first["stride"]) == ("Conv2d", "3 x 3", "2 x 2")
    assert (first["padding"], first["output"]) == ("1 x 1", "16 x 32 x 32")
    assert (first["receptive field"], first["effective stride"]) == ("3", "2")
    assert (first["formula"], first["features"]) == ("agrees", "yes")
    assert sum(int(row["weights"]) + int(row["biases"]) for row in counted) == total
    assert f"{total:,} parameters: " in ran.err
    assert f"agree with a real pass in all {len(counted)} layers" in ran.err
    assert "layer1" not in rows
    assert "layer1" in table_of(cli("inspect", "test_resnet", "--all").out)
    assert cli("inspect", "test_resnet", "-q").err == ""


@pytest.mark.parametrize("width", [80, 120])
def test_inspect__fits_a_terminal(cli, monkeypatch, width):
    monkeypatch.setattr(
        "transferkit.cli.console._console",
        lambda _: Console(force_terminal=True, color_system=None, width=width, highlight=False),
    )
    ran = cli("inspect", "resnet18")
    lines = ran.out.splitlines()
    stem = next(line for line in lines if line.startswith("stem"))
    first = next(line for line in lines if line.startswith("conv1")).split()
    closing = next(i for i, line in enumerate(lines) if line.startswith("11,689,512 parameters"))

    assert (ran.code, ran.err) == (0, "")
    assert max(map(len, lines[:closing])) <= width
    assert stem.split() == ["stem", "conv1,", "bn1", "64x56x56", "4", "11", "9,472", "64"]
    assert first[:6] == ["conv1", "Conv2d", "7x7", "2", "3", "64x112x112"]
    assert first[6:] == (["7"] if width == 80 else ["2", "7"]) + ["9,408", "0"]
    assert any("show the effective stride of every layer" in line for line in lines) == (
        width < 110
    )


def test_inspect__is_a_function_and_a_run_can_be_looked_into(run_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = transferkit.inspect(model=run_folder, kernels=True)
    rows = {row.name: row for row in found.layers}

    assert found.input_size == (3, 32, 32)
    assert rows["fc"].output == (3,)
    assert found.weights + found.biases == sum(row.parameters for row in found.counted)
    (drawing,) = found.drawings
    assert str(drawing.path) == "inspect/colours/kernels.png"
    assert pixels_of(drawing.path).shape[1] > 500


def test_inspect__names_what_has_no_formula_and_what_layer_does_not_take(cli, monkeypatch):
    monkeypatch.setattr(
        "transferkit.cli.console._console",
        lambda _: Console(force_terminal=True, color_system=None, width=120),
    )
    out = cli("inspect", "torchvision:vit_b_32", "--image-size", 64).out

    assert "in all 63 layers that have a formula\n" in out
    assert "measured only, without a formula: 12 MultiheadAttention\n" in out
    assert "\n(class_token) " in out
    assert "--layer does not take the names in parentheses\n" in out


def test_kernels__are_the_weights_in_colour_around_grey(tmp_path):
    kernels = np.zeros((2, 3, 1, 2), np.float32)
    kernels[0, 0, 0, 0], kernels[0, 2, 0, 1] = 2, -2  # red there, less blue beside it

    draw_kernels(kernels, tmp_path / "k.png", title="two")
    drawn = {tuple(map(int, colour)) for colour in pixels_of(tmp_path / "k.png").reshape(-1, 3)}

    assert {(255, 127, 127), (127, 127, 0), (127, 127, 127), (255, 255, 255)} <= drawn


def test_kernels__of_other_than_three_channels_and_of_zeros_are_grey(tmp_path):
    draw_kernels(np.zeros((5, 3, 3, 3), np.float32), tmp_path / "zeros.png", title="$a$ <b>")
    draw_kernels(np.random.default_rng(0).random((7, 5, 2, 2), np.float32), tmp_path / "five.png",
                 title="five")  # fmt: skip

    for name in ("zeros", "five"):
        pixels = pixels_of(tmp_path / f"{name}.png").astype(int)
        assert np.ptp(pixels, axis=2).max() == 0


def test_strongest_channels__are_those_that_vary_most():
    maps = np.zeros((4, 2, 2), np.float32)
    maps[1] = 100  # much, but everywhere the same
    maps[2, 0, 0], maps[3, 0, 0] = 2, 8

    assert strongest_channels(maps, 2) == [3, 2]
    assert strongest_channels(maps, 9) == [3, 2, 0, 1]


def test_maps__show_the_picture_and_each_map_from_its_lowest_to_its_highest(tmp_path):
    maps = np.arange(2 * 4, dtype=np.float32).reshape(2, 2, 2)
    draw_maps(maps, np.full((8, 8, 3), (9, 99, 199), np.uint8), tmp_path / "m.png", count=2,
              title="x")  # fmt: skip
    pixels = pixels_of(tmp_path / "m.png").reshape(-1, 3)

    counts = {tuple(c): (pixels == c).all(axis=1).sum() for c in ((9, 99, 199), (253, 231, 36))}
    assert min(counts.values()) > 100


def test_activations__a_file_a_stage_or_one_for_each_layer_named(cli, image_folder, tmp_path):
    picture = image_folder / "red/0.png"
    tiny = ("test_resnet", *TINY[2:], "--activations", picture)
    stages = cli("inspect", *tiny, "-o", tmp_path / "a")
    named = cli("inspect", *tiny, "--layer", "layer1", "--layer", "layer2", "-o", tmp_path / "b")

    assert stages.code == named.code == 0
    written = [line.split(": ")[0] for line in stages.out.splitlines()]
    assert written[:2] == [f"{tmp_path}/a/0-stem.png", f"{tmp_path}/a/0-stage1.png"]
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["0-layer1.png", "0-layer2.png"]
    assert " channels 8 x 8 of layer1\n" in named.out


def test_activations__of_a_sideways_picture_are_upright(tmp_path):
    picture = Image.new("RGB", (60, 60), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 60, 30))  # the upper half is white ...
    exif = Image.Exif()
    exif[0x0112] = 6  # ... and belongs to the right
    picture.save(tmp_path / "turned.jpg", exif=exif)
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


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "expected one of BACKBONE and --model"),
        (["resnet18", "-m", "run"], 2, "expected one of BACKBONE and --model"),
        (["resnet81"], 1, "unknown backbone 'resnet81'; did you mean"),
        (["-m", "nowhere"], 1, "nowhere: no such run"),
        (["resnet18", "--weights", "none"], 2, "--weights is for --kernels and --activations"),
        (["resnet18", "-o", "x"], 2, "--output is for --kernels and --activations"),
        (["resnet18", "--layer", "stem"], 2, "--layer needs --activations IMAGE"),
        (["resnet18", "--channels", "3"], 2, "--channels needs --activations IMAGE"),
        (["resnet18", "--kernels", "--all"], 2, "--all is for the table"),
        (["-m", "r", "--kernels", "--weights", "none"], 2, "--model has its own weights"),
        (["vit_tiny_patch16_224", "--image-size", "10"], 2, "--image-size: "),
        (["test_resnet", "--kernels", "--weights", "none.pth"], 1, "none.pth"),
    ],
)
def test_inspect__misuse_is_one_line(cli, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    ran = cli("inspect", *words)

    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_activations__that_cannot_be_drawn_are_told(tmp_path):
    save_picture(tmp_path / "a.png", (1, 2, 3), seed=0)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "file").write_text("in the way")
    small = {"weights": "none", "image_size": 32, "output": tmp_path / "out"}

    def look(picture="a.png", **options):
        transferkit.inspect("test_resnet", activations=tmp_path / picture, **small | options)

    with pytest.raises(DataError, match=r"broken\.jpg: .+; name another picture"):
        look("broken.jpg")
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        look("none.png")
    with pytest.raises(OptionError, match="prelogits of test_resnet has one position"):
        look(layer=("prelogits",))
    with pytest.raises(transferkit.TransferKitError, match="unknown layer 'stage9'; did you mean"):
        look(layer=("stage9",))
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match=r"cannot write .*file/"):
        look(output=tmp_path / "file")


def test_activations__of_a_weights_file_are_those_of_its_network(shared, tmp_path):
    picture = shared / "data/cats/Siamese/Siamese_100.jpg"
    words = {"activations": picture, "layer": ("stage2",), "channels": 4, "output": tmp_path}
    told = []
    for weights in ("none", str(shared / "weights/resnet18.safetensors")):
        (drawing,) = transferkit.inspect("resnet18", weights=weights, **words).drawings
        told.append((drawing.shows, pixels_of(drawing.path)))

    assert drawing.path == tmp_path / "Siamese_100-stage2.png"
    assert told[0][0] == told[1][0] == "4 of 128 channels 28 x 28 of stage2"
    assert (told[0][1] != told[1][1]).any()
