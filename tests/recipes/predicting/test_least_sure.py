"""The images whose label would teach the model most."""

from transferkit.recipes.predicting.least_sure import least_sure
from transferkit.tables.predictions import Prediction


def prediction(path, *probabilities):
    top = tuple((f"class {i}", p) for i, p in enumerate(probabilities))
    return Prediction(path, top[0][0], top[0][1], top)


BROKEN = Prediction("broken", None, None, (), "an empty file")
PREDICTIONS = [
    BROKEN,
    prediction("sure", 0.9, 0.1),
    prediction("hesitant", 0.5, 0.375),
    prediction("vague", 0.375, 0.125),
    prediction("as hesitant", 0.375, 0.25),
]


def test_least_sure__is_by_the_margin_of_the_two_most_probable_classes():
    chosen = least_sure(iter(PREDICTIONS), 3)

    assert [p.path for p in chosen] == ["hesitant", "as hesitant", "vague", "broken"]


def test_least_sure__of_more_than_there_are_is_all():
    chosen = least_sure(PREDICTIONS, 9)

    assert [p.path for p in chosen][-2:] == ["sure", "broken"]
    assert len(chosen) == 5


def test_least_sure__takes_a_model_of_one_class():
    assert least_sure([prediction("a", 1.0)], 1)[0].path == "a"
