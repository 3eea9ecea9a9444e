"""BackboneFeatures in scikit-learn: its estimator checks, pipelines, searches and copies."""

import pickle

import numpy as np
import pandas
import pytest
import skops.io
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks as checks

import transferkit
from transferkit.errors import DataError, ImageTypeError, OptionError, WeightsError
from transferkit.models.create_network import create_network
from transferkit.sklearn import BackboneFeatures

SMALL = {"weights": "none", "image_size": 32, "workers": 1}


def small(**parameters) -> BackboneFeatures:
    return BackboneFeatures("test_resnet", **SMALL, **parameters)


@pytest.fixture
def images(image_folder):
    files = sorted(image_folder.rglob("*.png"))
    return [str(path) for path in files], [path.parent.name for path in files]


CHECKS = (
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_estimator_tags_renamed,
    checks.check_get_params_invariance,
    checks.check_mixin_order,
    checks.check_no_attributes_set_in_init,
    checks.check_parameters_default_constructible,
    checks.check_set_params,
    checks.check_valid_tag_types,
)
"""The estimator checks of scikit-learn that do not pass a table of numbers as images."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_estimator_checks__that_apply_pass(check):
    estimator = BackboneFeatures("edges8")
    check("BackboneFeatures", estimator)  # raises if it fails

    assert estimator.get_params() == BackboneFeatures("edges8").get_params()


def test_transform__before_fit_is_an_error(images):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        BackboneFeatures("edges8").transform(images[0])


def test_transform__is_what_extract_features_writes(image_folder, images, tmp_path):
    transferkit.extract_features(
        image_folder, tmp_path / "f.npz", backbone="test_resnet", layer=("stage2",), **SMALL
    )
    model = small(layer="stage2").fit(images[0])

    with np.load(tmp_path / "f.npz") as file:
        assert np.array_equal(model.transform(images[0]), file["features"])
        assert model.get_feature_names_out().tolist() == file["columns"].tolist()
    assert model.n_features_out_ == len(model.get_feature_names_out())


def test_transform__takes_paths_images_and_arrays(images):
    files = images[0][:3]
    arrays = np.stack([np.asarray(Image.open(file)) for file in files])
    model = small().fit(files)
    expected = model.transform(files)

    assert np.array_equal(model.transform(arrays), expected)
    assert np.array_equal(model.transform([Image.open(file) for file in files]), expected)
    assert np.array_equal(model.transform(np.array(files)), expected)


def test_pipeline__works_in_a_search_and_in_cross_validation(images):
    files, labels = images
    edges = BackboneFeatures("edges8", image_size=32, workers=1)
    pipeline = make_pipeline(edges, StandardScaler(), LogisticRegression())
    scores = cross_val_score(pipeline, files, labels, cv=2)
    grid = {"backbonefeatures__patches": [1, 2], "backbonefeatures__layer": ["pooled", "stem"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(files, labels)

    assert np.isfinite(scores).all()
    assert search.best_score_ > 0.4  # edges8 sees only the brightness of these colours
    assert search.predict(files[:1]).tolist() == labels[:1]


def test_copies__keep_the_parameters_and_pickles_the_backbone_too(images):
    model = small(layer="stem", pool="max").fit(images[0])
    copied = clone(model)

    assert copied.get_params() == model.get_params()
    assert not hasattr(copied, "extractor_")
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.transform(images[0][:2]), model.transform(images[0][:2]))
    assert copied.set_params(pool="avg").pool == "avg"


def test_skops__saves_a_pipeline_without_its_weights(images, tmp_path):
    files, labels = images
    pipeline = make_pipeline(small(), LogisticRegression()).fit(files, labels)
    skops.io.dump(pipeline, tmp_path / "model.skops")

    loaded = skops.io.load(
        tmp_path / "model.skops", trusted=["transferkit.sklearn.BackboneFeatures"]
    )

    assert loaded.predict(files).tolist() == pipeline.predict(files).tolist()
    assert (tmp_path / "model.skops").stat().st_size < 100_000


def test_skops__refuses_other_weights_than_before(images, tmp_path):
    torch.manual_seed(1)
    first, second = (create_network("test_resnet", weights="none").module for _ in range(2))
    torch.save(first.state_dict(), tmp_path / "w.pth")
    model = BackboneFeatures("test_resnet", weights=tmp_path / "w.pth", image_size=32)
    dumped = skops.io.dumps(model.fit(images[0]))
    torch.save(second.state_dict(), tmp_path / "w.pth")
    trusted = skops.io.get_untrusted_types(data=dumped)

    with pytest.raises(WeightsError, match="not those that this BackboneFeatures was fitted with"):
        skops.io.loads(dumped, trusted=trusted)


def test_transform__takes_tables_with_one_column(images):
    files = images[0][:4]
    expected = small().fit(files).transform(files)
    table = pandas.DataFrame({"path": files, "size": range(4)}, index=[7, 5, 3, 1])
    columns = ColumnTransformer([("features", small(), ["path"])])

    for given in (table[["path"]], table["path"], np.array(files)[:, None], iter(files)):
        assert np.array_equal(small().fit_transform(given), expected)
    assert np.array_equal(columns.fit_transform(table), expected)
    with pytest.raises(ImageTypeError, match="expected one column of images"):
        small().fit(table)


def test_transform__takes_arrays_of_any_channels_and_floats(images):
    pixels = np.stack([np.asarray(Image.open(file)) for file in images[0][:3]])
    grey, opaque = pixels[..., :1], np.full_like(pixels[..., :1], 255)
    model = small().fit(pixels)

    expected = model.transform(np.repeat(grey, 3, axis=3))
    assert np.array_equal(model.transform(grey), expected)
    assert np.array_equal(model.transform(grey / np.float32(255)), expected)
    rgba = np.concatenate([pixels, opaque], axis=3)
    assert np.array_equal(model.transform(rgba), model.transform(pixels))
    with pytest.raises(DataError, match=r"image-0: an array of .* beyond 0\.\.1, expected floats"):
        model.transform(pixels.astype(float))
    with pytest.raises(ImageTypeError, match="may be one image or several"):
        model.transform(np.zeros((5, 8)))


def test_errors__say_which_image_or_parameter(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"broken")
    model = small()

    with pytest.raises(DataError, match=r"a\.jpg: not an image in a known format"):
        model.fit_transform([str(tmp_path / "a.jpg")])
    with pytest.raises(DataError, match=r"image-1: an array of \(4, 4, 2\)"):
        model.transform([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8)])
    with pytest.raises(DataError, match="got no images"):
        model.fit([])
    with pytest.raises(DataError, match="got one image"):
        model.fit("a.jpg")
    with pytest.raises(OptionError, match="pool='none' gives feature maps"):
        small(pool="none").fit(["a.jpg"])
