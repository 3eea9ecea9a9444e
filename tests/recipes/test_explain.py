"""`transferkit explain`: one drawing per input of the evidence in it."""

import shutil

import numpy as np
import pytest
from image_files import save_image
from PIL import Image

import transferkit
from transferkit.errors import BundleError, OptionError, OutputError, UnknownNameError


def test_explain__writes_a_drawing_for_every_input_in_order(
    run_folder, image_folder, tmp_path, cli
):
    (tmp_path / "broken.png").write_bytes(b"broken")
    ran = cli(
        *("explain", image_folder / "red/1.png", tmp_path / "broken.png", image_folder / "blue"),
        *("-m", run_folder, "-o", tmp_path / "why", "--top-k", 2),
    )
    lines = ran.out.splitlines()

    assert ran.code == 3
    assert len(lines) == 10
    assert lines[0].startswith(f"{tmp_path}/why/1.gradcam.png: red 0.")
    assert lines[1] == f"{tmp_path}/broken.png: error: not an image in a known format"
    assert lines[3].startswith(f"{tmp_path}/why/1-2.gradcam.png: blue 0.")
    drawn = [line.split(": ")[0] for line in lines if "error" not in line]
    assert sorted(drawn) == sorted(map(str, (tmp_path / "why").iterdir()))
    with Image.open(drawn[0]) as sheet:
        assert sheet.size[0] > 3 * 288
    predicted = transferkit.predict(str(image_folder / "red/1.png"), model=str(run_folder))
    (explained,) = transferkit.explain(
        str(image_folder / "red/1.png"), output=tmp_path / "why", overwrite=True, model=run_folder
    )
    for (label, value), (other, expected) in zip(explained.classes, predicted[0].top, strict=True):
        assert label == other
        assert value == pytest.approx(expected, abs=1e-5)


def test_explain__shows_rotated_images_upright_and_the_named_classes(run_folder, tmp_path):
    save_image(tmp_path / "a.jpg", (200, 50, 40), seed=1, size=(60, 60))
    with Image.open(tmp_path / "a.jpg") as image:
        pixels = np.array(image)
        pixels[:30] = 0  # the upper half is black
        exif = Image.Exif()
        exif[0x0112] = 6  # displayed rotated clockwise: the black half is on the right
        Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    (explained,) = transferkit.explain(
        str(tmp_path / "a.jpg"), model=str(run_folder), output=tmp_path, classes=["green", "blue"]
    )
    with Image.open(explained.drawing) as sheet:
        view = np.asarray(sheet.convert("L"))[52 : 52 + 288, 10 : 10 + 288].astype(int)

    assert [label for label, _ in explained.classes] == ["green", "blue"]
    assert view[:, 200:].mean() < 20
    assert view[:, :80].mean() > 60


def test_explain__never_replaces_an_input(run_folder, image_folder, tmp_path):
    image = tmp_path / "1.gradcam.png"
    shutil.copy(image_folder / "red/1.png", image)
    shutil.copy(image_folder / "red/1.png", tmp_path / "1.png")
    before = image.read_bytes()
    explained = transferkit.explain(
        [str(tmp_path / "1.png"), str(image)], model=str(run_folder), output=tmp_path
    )

    assert image.read_bytes() == before
    assert [e.drawing.name for e in explained] == ["1-2.gradcam.png", "1.gradcam.gradcam.png"]


def test_explain__handles_odd_names(run_folder, image_folder, tmp_path):
    names = [f"{'x' * 240}.png", "two\nlines.png", "a#?%<b>.png", "A.png", "a.png"]
    for name in names:
        shutil.copy(image_folder / "red/1.png", tmp_path / name)
    explained = transferkit.explain(
        [*(str(tmp_path / name) for name in names), "null\0.png"],
        model=str(run_folder),
        output=tmp_path / "why",
        top_k=1,
    )

    assert [e.error is None for e in explained] == [True] * 5 + [False]
    drawn = [e.drawing.name for e in explained[:5]]
    assert drawn[0] == "x" * 200 + ".gradcam.png"
    assert drawn[3:] == ["A.gradcam.png", "a-2.gradcam.png"]
    assert {p.name for p in (tmp_path / "why").iterdir()} == set(drawn)


def test_explain__handles_a_classifier_on_features(image_folder, tmp_path):
    run = tmp_path / "run"
    transferkit.finetune(
        image_folder, run, backbone="edges8", strategy="features", classifier="svm"
    )
    (explained,) = transferkit.explain(
        str(image_folder / "red/1.png"), model=str(run), output=tmp_path / "why"
    )

    assert explained.drawing.is_file()
    assert len(explained.classes) == 3


def test_explain__refuses_what_cannot_be_done(run_folder, image_folder, tmp_path):
    def explain(**options):
        given = {"model": str(run_folder), "output": tmp_path / "why"} | options
        transferkit.explain(str(image_folder / "red/1.png"), **given)

    with pytest.raises(UnknownNameError, match="unknown class 'gren'; did you mean green"):
        explain(classes="gren")
    with pytest.raises(UnknownNameError, match="unknown layer 'layer9'"):
        explain(layer="layer9")
    with pytest.raises(OptionError, match="--top-k picks the most probable classes"):
        explain(classes="green", top_k=2)
    with pytest.raises(OptionError, match="--precision: got bf16"):
        explain(precision="bf16")
    with pytest.raises(OptionError, match="--layer is for --method gradcam"):
        explain(layer="stage1", method="saliency")
    with pytest.raises(BundleError, match="no such run"):
        explain(model=str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        explain(output=tmp_path / "file")
    assert list((tmp_path / "why").iterdir()) == []
