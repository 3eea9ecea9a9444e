"""Images as Python callers bring them."""

from io import BytesIO, StringIO
from pathlib import Path, PurePosixPath

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

import transferkit
from transferkit.data.image_inputs import as_images
from transferkit.data.images import read_image
from transferkit.errors import DataError, ImageTypeError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded():
    buffer = BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


ONE = {
    "pil": Image.fromarray(PIXELS),
    "array": PIXELS,
    "floats": PIXELS / np.float32(255),
    "bytes": encoded(),
    "bytearray": bytearray(encoded()),
    "memoryview": memoryview(encoded()),
    "tensor, channels first": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "tensor, channels last": torch.from_numpy(PIXELS),
    "tensor of floats": torch.from_numpy(PIXELS / np.float32(255)).permute(2, 0, 1),
}


@pytest.mark.parametrize("given", ONE.values(), ids=ONE.keys())
def test_as_images__takes_one_image_alone_or_in_a_list(given):
    for images in (as_images(given), as_images([given]), as_images(x for x in [given])):
        assert len(images) == 1
        assert np.array_equal(np.asarray(read_image(images[0])), PIXELS)


def test_as_images__reads_open_files(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded())
    with (tmp_path / "a.png").open("rb") as file:
        (image,) = as_images(file)

    assert np.array_equal(np.asarray(read_image(image)), PIXELS)
    assert len(as_images([BytesIO(encoded()), BytesIO(encoded())])) == 2


@pytest.mark.parametrize(
    "given",
    [
        ["a.png", "b.png"],
        ("a.png", Path("b.png")),
        iter(["a.png", "b.png"]),
        np.array(["a.png", "b.png"]),
        np.array([["a.png"], ["b.png"]], dtype=object),
        pandas.Series(["a.png", "b.png"], index=[5, 3]),
        pandas.DataFrame({"path": ["a.png", "b.png"]}),
        [PurePosixPath("a.png"), np.str_("b.png")],
    ],
    ids=lambda given: type(given).__name__,
)
def test_as_images__takes_lists_and_columns_of_paths(given):
    assert list(map(str, as_images(given))) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "given",
    [np.stack([PIXELS] * 2), torch.from_numpy(np.stack([PIXELS] * 2)).permute(0, 3, 1, 2)],
    ids=["array", "tensor"],
)
def test_as_images__takes_several_in_one_array(given):
    images = as_images(given)

    assert len(images) == 2
    assert np.array_equal(np.asarray(read_image(images[1])), PIXELS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "got None; expected paths, PIL images"),
        (7, "got 7; expected"),
        ({"a.png": 1}, "got a dict; expected"),
        ({"a.png"}, "got a set; expected"),
        (object(), "got a object; expected"),
        (["a.png", None], "item 1 is None; expected"),
        ([["a.png"]], "item 0 is a list; expected"),
        ([b"x", 3.5], "item 1 is 3.5; expected"),
        (StringIO("a.png"), "opened for text"),
        (np.zeros(3), r"an array of \(3,\) float64, which may be one image or several"),
        (np.zeros((5, 20, 30), np.uint8), "which may be one image or several"),
        (np.array([["a", "b"]]), "expected one column of images"),
        (torch.zeros(3, 8, 3), "channels may be first or last"),
        (pandas.DataFrame({"a": ["x"], "b": ["y"]}), "expected one column of images"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_as_images__says_what_is_no_image(given, message):
    with pytest.raises(TypeError, match=message) as caught:
        as_images(given)
    assert isinstance(caught.value, ImageTypeError)


def test_predict__takes_images_of_every_kind(run_folder, image_folder):
    path = image_folder / "green" / "3.png"
    image = Image.open(path)
    expected = transferkit.ModelBundle.load(run_folder).predict_proba(str(path))

    with path.open("rb") as file:
        given = [path, image, np.asarray(image), path.read_bytes(), file, "missing.png"]
        predictions = transferkit.predict(given, model=run_folder)

    assert [p.label for p in predictions] == ["green"] * 5 + [None]
    assert [p.path for p in predictions[1:5]] == ["image-1", "image-2", "image-3", "image-4"]
    assert predictions[0].path == str(path)
    for one in (image, np.asarray(image), pandas.Series([str(path)], index=[9])):
        (alone,) = transferkit.predict(one, model=run_folder)
        assert alone.confidence == pytest.approx(expected.max(), abs=1e-6)
        values = transferkit.ModelBundle.load(run_folder).predict_proba(one)
        assert np.allclose(values, expected, atol=1e-6)


def test_predict__names_what_is_no_image_before_it_loads_anything():
    with pytest.raises(TypeError, match="item 0 is a object"):
        transferkit.predict([object()], model="no such model")
    with pytest.raises(DataError, match="no images were given; expected"):
        transferkit.predict([], model="no such model")


def test_explain__takes_an_image_without_a_path(run_folder, tmp_path):
    (explanation,) = transferkit.explain(PIXELS, output=tmp_path, model=run_folder)

    assert explanation.drawing == tmp_path / "image-0.gradcam.png"
