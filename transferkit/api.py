"""The commands as functions: options become keyword arguments that type checkers can check.

In a notebook they show what the commands show in a terminal; elsewhere they are silent.
"""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from transferkit.errors import OptionError
from transferkit.models.catalogue import BackboneEntry
from transferkit.notebook import default_reporter
from transferkit.options.audit import AuditOptions
from transferkit.options.backbones import BackbonesOptions
from transferkit.options.compare import CompareOptions
from transferkit.options.declaration import create_options
from transferkit.options.evaluate import EvaluateOptions
from transferkit.options.explain import ExplainOptions
from transferkit.options.export import ExportOptions
from transferkit.options.extract_features import ExtractFeaturesOptions
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.inspect import InspectOptions
from transferkit.options.predict import PredictOptions
from transferkit.options.report import ReportOptions
from transferkit.recipes.audit import audit as _audit
from transferkit.recipes.backbones import backbones as _backbones
from transferkit.recipes.compare import compare as _compare
from transferkit.recipes.evaluate import evaluate as _evaluate
from transferkit.recipes.explain import Explanation
from transferkit.recipes.explain import explain as _explain
from transferkit.recipes.export import export as _export
from transferkit.recipes.extract_features import extract_features as _extract_features
from transferkit.recipes.extract_features import to_finetune_options
from transferkit.recipes.extracting.extraction import Extraction
from transferkit.recipes.finetune import finetune as _finetune
from transferkit.recipes.finetuning.run_in_progress import FinetuneResult
from transferkit.recipes.inspect import inspect as _inspect
from transferkit.recipes.predict import predict as _predict
from transferkit.recipes.report import report as _report
from transferkit.reporter import Reporter
from transferkit.tables.predictions import Prediction

_P = ParamSpec("_P")
_O = TypeVar("_O")
_R = TypeVar("_R")


def _from_keywords(
    options: Callable[_P, _O], recipe: Callable[[_O, Reporter], _R]
) -> Callable[_P, _R]:
    assert isinstance(options, type)

    @wraps(recipe)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return recipe(create_options(options, *args, **kwargs), default_reporter())

    # help() and editors show this signature: the options instead of one `options` parameter.
    call.__signature__ = signature(options)  # type: ignore[attr-defined]
    return call


def _all_predictions(options: PredictOptions, reporter: Reporter) -> list[Prediction]:
    """Return one prediction per input, in order; see `transferkit predict --help`.

    Raises:
        OptionError: When there is a format, and no output.
    """
    if options.format is not None and options.output is None:
        raise OptionError("--format is for records in a file, and there is no --output")
    return list(_predict(options, reporter))


def _all_explanations(options: ExplainOptions, reporter: Reporter) -> list[Explanation]:
    """Return one explanation per input, in order; see `transferkit explain --help`."""
    return list(_explain(options, reporter))


def _matching_backbones(options: BackbonesOptions, reporter: Reporter) -> list[BackboneEntry]:
    """Return the backbones whose names match; see `transferkit backbones --help`."""
    return _backbones(options)


def _extract_or_fit(
    options: ExtractFeaturesOptions, reporter: Reporter
) -> Extraction | FinetuneResult:
    """Write features; with `classifier`, fit one. See `transferkit extract-features --help`.

    Returns:
        A record of the table that was written; with `classifier`, the result of `finetune`.
    """
    if options.classifier:
        return _finetune(to_finetune_options(options), reporter)
    return _extract_features(options, reporter)


finetune = _from_keywords(FinetuneOptions, _finetune)
extract_features = _from_keywords(ExtractFeaturesOptions, _extract_or_fit)
predict = _from_keywords(PredictOptions, _all_predictions)
audit = _from_keywords(AuditOptions, _audit)
compare = _from_keywords(CompareOptions, _compare)
evaluate = _from_keywords(EvaluateOptions, _evaluate)
explain = _from_keywords(ExplainOptions, _all_explanations)
export = _from_keywords(ExportOptions, _export)
draw_report = _from_keywords(ReportOptions, _report)
list_backbones = _from_keywords(BackbonesOptions, _matching_backbones)
inspect = _from_keywords(InspectOptions, _inspect)
