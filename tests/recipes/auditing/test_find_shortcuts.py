"""Properties of the files that give a class away are named, and chance is not."""

from dataclasses import fields, replace

import numpy as np
import pytest
from made_dataset import made_dataset

from transferkit.data.image_measures import ImageMeasures
from transferkit.recipes.auditing.find_shortcuts import find_shortcuts
from transferkit.reporter import SILENT

NAMES = ("ants", "bees", "cats", "dogs")
LABELS = np.repeat(np.arange(4), 40)


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    """Let forests have 30 trees: a hundred say the same, in three times the time."""
    monkeypatch.setattr("transferkit.classifiers.forest._TREES", 30)


def random_measures(seed: int = 0) -> ImageMeasures:
    """Return measures that say nothing about the labels."""
    random = np.random.default_rng(seed)
    values = {f.name: random.uniform(50, 200, len(LABELS)) for f in fields(ImageMeasures)}
    return ImageMeasures(**values)


def found(measures: ImageMeasures) -> list[str]:
    dataset = made_dataset(LABELS, class_names=NAMES)
    return [f.detail for f in find_shortcuts(dataset, measures, 0, SILENT).findings]


def test_find_shortcuts__names_none_where_properties_say_nothing():
    assert found(random_measures()) == []


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        ("quantization", "JPEG compression"),
        ("width", "width"),
        ("format", "file format"),
        ("red", "mean colour"),
        ("bytes_per_pixel", "bytes per pixel"),
    ],
)
def test_find_shortcuts__names_the_class_and_the_property_that_gives_it_away(measure, name):
    measures = random_measures()
    values = np.full(len(LABELS), 100.0)
    values[LABELS == 1] = 300.0
    (detail,) = found(replace(measures, **{measure: values}))

    assert detail.startswith("bees: told by properties of the files alone in 100% (")
    assert detail.endswith(f"best by {name} alone, 100%")


def test_find_shortcuts__names_the_accuracy_where_all_classes_are_given_away():
    details = found(replace(random_measures(), height=100.0 * (1 + LABELS)))

    assert details[0].startswith("the labels: told by properties of the files alone in 100% (")
    assert "baseline 25%" in details[0]
    assert [detail.partition(":")[0] for detail in details[1:]] == list(NAMES)


def test_find_shortcuts__is_not_looked_for_in_one_class():
    dataset = made_dataset([0] * 160, class_names=("ants",))

    assert find_shortcuts(dataset, random_measures(), 0, SILENT).findings == ()
