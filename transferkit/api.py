"""The recipes as plain functions: a command's options as keywords, checked by type checkers."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from transferkit.models.backbones import BackboneEntry
from transferkit.recipes import backbones as _backbones
from transferkit.recipes import evaluate as _evaluate
from transferkit.recipes import extract_features as _extract_features
from transferkit.recipes import finetune as _finetune
from transferkit.recipes import predict as _predict
from transferkit.recipes.options import (
    BackbonesOptions,
    EvaluateOptions,
    ExtractFeaturesOptions,
    FinetuneOptions,
    PredictOptions,
)

P = ParamSpec("P")
O = TypeVar("O")
R = TypeVar("R")


def _from_keywords(options: Callable[P, O], recipe: Callable[[O], R]) -> Callable[P, R]:
    @wraps(recipe)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return recipe(options(*args, **kwargs))

    return call
