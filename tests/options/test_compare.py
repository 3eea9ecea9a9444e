"""Options of a comparison: its candidates, and combinations that are refused."""

import pytest

from transferkit.errors import OptionError
from transferkit.models.unfreeze import Unfreeze
from transferkit.options.compare import CompareOptions


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": "svn"}, "--strategy: got 'svn', expected .*; did you mean svm?"),
        ({"strategy": "partial:last"}, "--unfreeze: got 'last'"),
        ({"strategy": ("svm", "svm")}, "svm on tf_efficientnet_lite0 is named twice"),
        ({"backbone": ("vgg11", "vgg11")}, r"partial on vgg11 \(pretrained\) is named twice"),
        ({"backbone": ("a", "b", "c"), "weights": ("none", "none")}, "got 2 for 3 backbones"),
        ({"seeds": 0}, "--seeds: got 0, expected 1 or more and at most 100"),
        ({"budget": 0}, "--budget: got 0"),
        ({"resume": True}, "name it with --output"),
        ({"resume": True, "overwrite": True, "output": "x"}, "--resume does not; leave one out"),
        ({"val": "v", "split": "s"}, "leave out --val"),
    ],
)
def test_options__refuse_what_cannot_work(given, message):
    with pytest.raises(OptionError, match=message):
        CompareOptions("data", **given)


def test_candidates__are_all_pairs_and_name_weights_that_differ():
    options = CompareOptions(
        "data", strategy=("svm", "partial:last:1"), backbone=("vgg11", "vgg11"),
        weights=("pretrained", "none"),
    )  # fmt: skip

    assert [candidate.name for candidate in options.candidates] == [
        "svm on vgg11 (pretrained)",
        "partial:last:1 on vgg11 (pretrained)",
        "svm on vgg11 (none)",
        "partial:last:1 on vgg11 (none)",
    ]
    assert options.run_options(options.candidates[3], seed=5).unfreeze == Unfreeze("last:1")
    assert options.candidates[1].folder_name == "partial-last-1-vgg11-(pretrained)"
