"""Values of options: what Python callers may write, and that everything else is refused."""

import re
from pathlib import Path, PurePosixPath

import numpy as np
import pandas
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import transferkit
from transferkit.errors import OptionError, TransferKitError
from transferkit.options.audit import AuditOptions
from transferkit.options.backbones import BackbonesOptions
from transferkit.options.compare import CompareOptions
from transferkit.options.declaration import declared_options
from transferkit.options.evaluate import EvaluateOptions
from transferkit.options.explain import ExplainOptions
from transferkit.options.export import ExportOptions
from transferkit.options.extract_features import ExtractFeaturesOptions
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.inspect import InspectOptions
from transferkit.options.predict import PredictOptions
from transferkit.options.report import ReportOptions


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("epochs", np.int64(3), 3),
        ("epochs", 2.0, 2),
        ("epochs", "4", 4),
        ("epochs", np.array(5), 5),
        ("val_fraction", np.float32(0.25), 0.25),
        ("seed", np.uint8(7), 7),
        ("report", np.bool_(False), False),
        ("label_smoothing", 0, 0.0),
        ("learning_rate", np.float64(1e-3), 1e-3),
        ("output", "runs/a", Path("runs/a")),
        ("weights", PurePosixPath("w.pth"), "w.pth"),
        ("augment", "strong", "strong"),
        ("image_size", "128x256", (128, 256)),
        ("image_size", "96x96", 96),
        ("image_size", [128, 256], (128, 256)),
        ("image_size", np.array([128, 256]), (128, 256)),
        ("image_size", np.int32(64), 64),
        ("group_by", r"p(\d)", re.compile(r"p(\d)")),
        ("group_by", re.compile("(x)"), re.compile("(x)")),
        ("layout", "split", "split"),
    ],
)
def test_options__take_what_means_the_same(name, given, expected):
    value = getattr(FinetuneOptions("data", **{name: given}), name)

    assert value == expected
    assert type(value) is type(expected) or isinstance(value, str)


COLUMN = pandas.Series(["stem"], index=[4])


@pytest.mark.parametrize(
    "layer", ["stem", ["stem"], ("stem",), np.array(["stem"]), COLUMN, np.str_("stem")]
)
def test_options__take_one_name_where_a_list_may_stand(layer):
    options = FinetuneOptions("data", strategy="features", layer=layer)

    assert options.layer == ("stem",)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("epochs", 1.5, "--epochs: got 1.5, expected a whole number"),
        ("epochs", True, "--epochs: got True, expected a whole number"),
        ("epochs", "many", "--epochs: got 'many', expected a whole number"),
        ("seed", None, "--seed: got None, expected a whole number"),
        ("seed", float("nan"), "--seed: got nan, expected a whole number"),
        ("val_fraction", "x", "--val-fraction: got 'x', expected a number"),
        ("val_fraction", float("inf"), "--val-fraction: got inf, expected more than 0"),
        ("resume", 1, "--resume: got 1, expected true or false"),
        ("backbone", 18, "--backbone: got 18, expected text"),
        ("backbone", "", "--backbone: got '', expected text"),
        ("output", 3, "--output: got 3, expected an address such as s3://bucket/folder or a path"),
        ("split", "s3://a/b", "--split: got 's3://a/b', expected a path of this machine or None"),
        ("split", "a\0b", r"--split: got 'a\\x00b', expected a path"),
        ("strategy", "ful", "--strategy: got 'ful', expected partial, full, gradual, features"),
        ("image_size", (128, 256, 3), "--image-size: got .* expected a whole number or a pair"),
        ("image_size", "128x", "--image-size: got '128x', expected pixels as in 224"),
        ("image_size", "0x5", "--image-size: got 0, expected 1 or more"),
        ("group_by", "patient", "--group-by: got 'patient', expected parentheses"),
        ("group_by", "(", "--group-by: got '\\(', which is not a regular expression"),
        ("layer", {"stem"}, "--layer: got {'stem'}, expected text or a list of them"),
        ("layer", [1], r"--layer: got \[1\], expected text or a list of them"),
        ("unfreeze", 2, "--unfreeze: got 2, expected Unfreeze or text"),
    ],
)
def test_options__name_the_option_what_came_and_what_is_expected(name, given, message):
    with pytest.raises(OptionError, match=message):
        FinetuneOptions("data", **{name: given})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transferkit.finetune("x", backbon="a"), "'backbon'; did you mean backbone?"),
        (lambda: transferkit.finetune("x", zzz=1), "unknown option 'zzz'; expected data, output"),
        (lambda: transferkit.finetune("x", lr=1), "unknown option 'lr'; did you mean learning_rat"),
        (lambda: transferkit.finetune(), "missing a required argument: 'data'"),
        (lambda: transferkit.finetune("x", data="y"), "multiple values for argument 'data'"),
        (lambda: transferkit.predict("x", modle="y"), "did you mean model?"),
    ],
)
def test_functions__name_an_argument_that_is_wrong(call, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        call()


FUNCTIONS = {
    transferkit.finetune: FinetuneOptions,
    transferkit.extract_features: ExtractFeaturesOptions,
    transferkit.predict: PredictOptions,
    transferkit.evaluate: EvaluateOptions,
    transferkit.explain: ExplainOptions,
    transferkit.compare: CompareOptions,
    transferkit.audit: AuditOptions,
    transferkit.export: ExportOptions,
    transferkit.inspect: InspectOptions,
    transferkit.draw_report: ReportOptions,
    transferkit.list_backbones: BackbonesOptions,
}
OPTIONS = [
    (function, declared.name)
    for function, kind in FUNCTIONS.items()
    for declared in declared_options(kind)
]
WRONG = st.one_of(
    st.sampled_from([object(), ..., b"bytes", 1j, {"a": 1}, {1}, float("nan"), [[]], [None], "\0"]),
    st.just(np.zeros((2, 2), dtype=complex)),
    st.dictionaries(st.text(), st.integers(), min_size=1),
    st.lists(st.complex_numbers(), min_size=1),
    st.complex_numbers(),
)
"""Values of no option's type."""


@settings(max_examples=400, deadline=None)
@given(option=st.sampled_from(OPTIONS), value=WRONG)
def test_functions__refuse_every_wrong_value_before_anything_begins(
    tmp_path_factory, option, value
):
    function, name = option
    # An input that cannot be read is no wrong value: it becomes a record with the reason.
    assume(name != "inputs" or not isinstance(value, str | bytes))
    where = tmp_path_factory.mktemp("nothing")
    required = {
        "data": where, "inputs": ["a.jpg"], "model": where, "run": where, "output": where / "f.npz",
    }  # fmt: skip
    kind = FUNCTIONS[function]
    given = {d.name: required[d.name] for d in declared_options(kind) if d.is_required}

    with pytest.raises(TransferKitError) as error:
        function(**{**given, name: value})

    assert isinstance(error.value, OptionError | TypeError), error.value
    assert list(where.iterdir()) == []
