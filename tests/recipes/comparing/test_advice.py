"""The advice at the end of a comparison: every rule, on made-up figures."""

import pytest

from transferkit.intervals import Estimate
from transferkit.options.compare import Candidate
from transferkit.recipes.comparing.advice import advise
from transferkit.recipes.comparing.rows import ComparisonRow


def row(strategy, value=None, behind=None, seconds=10.0, note="") -> ComparisonRow:
    """Return a row with intervals of +-0.02; `behind` is its distance from the best."""
    accuracy = None if value is None else Estimate(value, value - 0.02, value + 0.02)
    difference = None if behind is None else Estimate(-behind, -behind - 0.02, -behind + 0.02)
    return ComparisonRow(
        candidate=Candidate(strategy, "vgg11", "pretrained"),
        by_seed=() if value is None else (value,),
        accuracy=accuracy,
        difference=difference,
        seconds=None if value is None else seconds,
        spent=seconds,
        trainable_parameters=1,
        total_parameters=1,
        size=1,
        note=note,
        failed=False,
        epochs=0,
        so_far=None,
        curve=(),
    )


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [row("full", 0.92, seconds=90), row("svm", 0.91, 0.01, seconds=10)],
            "Take svm on vgg11: the best, full on vgg11, is not better beyond chance "
            "(+0.010, -0.010 to +0.030), and takes 9.0 times as long.",
        ),
        (
            [row("full", 0.92, seconds=90), row("svm", 0.92, 1e-9, seconds=10)],
            "Take svm on vgg11: the best, full on vgg11, is not better beyond chance "
            "(+0.000, -0.020 to +0.020), and takes 9.0 times as long.",
        ),
        (
            [row("full", 0.92, seconds=90), row("svm", 0.88, 0.04, seconds=10)],
            "Take full on vgg11: it is better than the next, svm on vgg11 "
            "(+0.040, +0.020 to +0.060), and takes 9.0 times as long.",
        ),
        (
            [row("svm", 0.92, seconds=10), row("full", 0.88, 0.04, seconds=90)],
            "Take svm on vgg11: it is better than the next, full on vgg11 "
            "(+0.040, +0.020 to +0.060), and not slower.",
        ),
        (
            [row("svm", 0.92, seconds=10), row("full", 0.91, 0.01, seconds=90)],
            "Take svm on vgg11: it is the best, and full on vgg11, which cannot be told apart from "
            "it, takes 9.0 times as long.",
        ),
        (
            [row("svm", 0.92, seconds=12), row("linear", 0.91, 0.01, seconds=10)],
            "Take svm on vgg11: it is the best, and those that cannot be told apart from it take "
            "about as long.",
        ),
        (
            # A fast candidate that is clearly worse is not advised.
            [row("full", 0.92, seconds=90), row("svm", 0.91, 0.01, seconds=60),
             row("knn", 0.7, 0.22, seconds=1)],
            "Take svm on vgg11: the best, full on vgg11, is not better beyond chance "
            "(+0.010, -0.010 to +0.030), and takes 1.5 times as long.",
        ),
        (
            [row("full", 0.92), row("svm", 0.88, 0.04), row("partial", note="stopped")],
            "Take full on vgg11: it is better than the next, svm on vgg11 "
            "(+0.040, +0.020 to +0.060), and not slower (1 of 3 did not finish).",
        ),
        (
            [row("full", 0.92), row("svm", note="failed")],
            "Take full on vgg11: only it finished, and the other may be better.",
        ),
        (
            [row("full", 0.92)],
            "Take full on vgg11: there was nothing to compare it with.",
        ),
        (
            [row("full", 0.51), row("svm", 0.4, 0.11)],
            "Take none of them yet: full on vgg11, the best, cannot be told apart from always "
            "predicting the most frequent class (0.500); check the labels, add images, or train "
            "for more --epochs.",
        ),
        ([row("full", note="failed")], "No advice: no candidate finished."),
    ],
)  # fmt: skip
def test_advise__follows_its_rules(rows, sentence):
    assert advise(rows, baseline=0.5) == sentence
