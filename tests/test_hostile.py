"""Odd and broken images from well-known test suites, through the commands."""

import csv
import shutil

import numpy as np
import pytest

import transferkit
from transferkit.data.images import ImageError, read_image
from transferkit.errors import DataError

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "epochs": 1}
UPRIGHT = [
    *("hopper.Lab.tif", "hopper_idat_after_image_end.png", "hopper_orientation_6.jpg"),
    *("hopper_rle8_row_overflow.bmp", "hopper_orientation_3.jpg", "hopper_orientation_6.webp"),
]
"""The same portrait, stored in many ways."""


@pytest.fixture(scope="module")
def hostile(shared, tmp_path_factory):
    """All of these images, alternately in two classes."""
    root = tmp_path_factory.mktemp("hostile")
    files = sorted(p for p in (shared / "data/hostile").iterdir() if p.suffix != ".csv")
    for i, file in enumerate(files):
        folder = root / ("odd" if i % 2 else "even")
        folder.mkdir(exist_ok=True)
        shutil.copy(file, folder / file.name)
    return root


def readable(path):
    try:
        read_image(path)
    except ImageError:
        return False
    return True


def test_finetune__uses_what_can_be_read_and_lists_the_rest(hostile, tmp_path):
    result = transferkit.finetune(hostile, tmp_path / "run", **SMALL)
    with (tmp_path / "run/skipped.csv").open(newline="") as file:
        skipped = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    bad = {p.relative_to(hostile).as_posix() for p in hostile.glob("*/*") if not readable(p)}

    assert set(skipped) == bad
    assert all(skipped.values())
    assert 15 < len(bad) < 25
    with (tmp_path / "run/split.csv").open(newline="") as file:
        groups = {row["path"].split("/")[1]: row["group"] for row in csv.DictReader(file)}
    assert len({groups[name] for name in UPRIGHT}) == 1
    assert "likely label errors" in dict(result.plan.settings)["copies"]
    with pytest.raises(DataError, match=rf"{len(bad)} images cannot be used: even/badbitcount.bmp"):
        transferkit.finetune(hostile, tmp_path / "other", on_bad_image="fail", **SMALL)


def test_predict__never_gives_a_neighbours_scores(hostile, run_folder):
    records = transferkit.predict([str(hostile)], model=str(run_folder))
    bundle = transferkit.ModelBundle.load(run_folder)

    assert len(records) == len(list(hostile.glob("*/*")))
    for record in records:
        if record.error is not None:
            assert record.label is None
            assert not readable(record.path)
            continue
        alone = dict(zip(bundle.class_names, bundle.predict_proba([record.path])[0], strict=True))
        assert all(abs(alone[name] - value) < 1e-5 for name, value in record.top)


def test_extract_features__leaves_out_what_evaluate_leaves_out(hostile, run_folder, tmp_path):
    result = transferkit.extract_features(hostile, tmp_path / "f.npz", model=str(run_folder))
    with np.load(tmp_path / "f.npz") as table:
        paths = set(table["paths"].tolist())

    assert paths == {p.relative_to(hostile).as_posix() for p in hostile.glob("*/*") if readable(p)}
    assert result.shape[0] == len(paths)
    with pytest.raises(DataError, match="images cannot be used"):
        transferkit.extract_features(
            hostile, tmp_path / "g.npz", model=str(run_folder), on_bad_image="fail"
        )


@pytest.mark.parametrize("name", ["oxfordpet_Abyssinian_34.jpg", "rot1mir0.avif", "basn4a16.png"])
def test_read_image__shows_what_other_programs_show(name, shared):
    """A GIF named .jpg, an AVIF rotated by its own tag, and 16-bit gray with alpha."""
    pixels = np.asarray(read_image(shared / "data/hostile" / name))

    assert pixels.std() > 20
    assert pixels.dtype == np.uint8
