"""The options of a cluster: the same for every command that has them."""

import pytest

from transferkit.errors import OptionError
from transferkit.options.extract_features import ExtractFeaturesOptions
from transferkit.options.predict import PredictOptions


@pytest.mark.parametrize("kind", [PredictOptions, ExtractFeaturesOptions])
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"on": "spark"}, "--on: got spark, expected ray or ray://HOST:PORT"),
        ({"on": "ray", "resume": True, "overwrite": True}, "--overwrite starts over"),
        ({"actors": 2}, "--actors is for --on"),
        ({"images_per_part": 2}, "--images-per-part is for --on"),
    ],
)
def test_options__that_contradict_each_other_are_refused(kind, more, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        kind("images", output=tmp_path / "rows", **more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"on": "ray", "output": None}, "--on writes a folder of Parquet files"),
        ({"on": "ray", "format": "csv"}, "--on writes Parquet files, got --format csv"),
        ({"resume": True}, "--resume is for --on"),
    ],
)
def test_options__of_predict_take_a_cluster_with_a_folder_only(more, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        PredictOptions("images", **{"output": tmp_path / "records", **more})


def test_options__of_extract_features_take_a_cluster_or_a_classifier(tmp_path):
    with pytest.raises(OptionError, match="leave out --on or --classifier"):
        ExtractFeaturesOptions("images", tmp_path / "rows", on="ray", classifier="svm")
    assert ExtractFeaturesOptions("images", tmp_path / "rows", resume=True, overwrite=True).resume
