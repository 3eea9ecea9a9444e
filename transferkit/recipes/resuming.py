"""Options that a run began with, to go on with it as it was."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from transferkit.errors import OptionError, OutputError
from transferkit.recipes.declaration import AUTO, Options, changed, flag_of
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.recipes.run_folder import METRICS, OPTIONS, SPLIT

GIVEN = "given"
"""The key of options.json under which stands what was asked for, apart from what came of it."""

_OF_THE_CALL = ("data", "output", "overwrite", "resume", "dry_run", "find_lr")
_FREE = ("workers", "cache", "cache_limit", "checkpoint_minutes", "report")
"""What changes nothing in the model."""


def given_options(options: Options) -> dict[str, Any]:
    """The options that are not left at their default, for options.json."""
    return {
        entry.name: getattr(options, entry.name)
        for entry in fields(options)
        if entry.name not in _OF_THE_CALL and getattr(options, entry.name) != entry.default
    }


def resumed_options(options: FinetuneOptions) -> FinetuneOptions:
    """The options of the run that `options` want to go on with.

    Raises:
        OutputError: When there is no such run, or it has come to its end.
        OptionError: When an option is given that the run does not have.
    """
    run = options.output
    if run is None:
        raise OptionError("--resume: expected the run to go on with; name it with --output")
    recorded = recorded_options(run)
    free = {name: getattr(options, name) for name in _FREE}
    call = {name: getattr(options, name) for name in _OF_THE_CALL}
    began = FinetuneOptions(**{**recorded[GIVEN], **free, **call})
    require_as_it_began(options, began, run)
    if began.learning_rate == AUTO:
        # Its range test is done.
        rate = recorded["learning_rate"]
        began = FinetuneOptions(**{**recorded[GIVEN], **free, **call, "learning_rate": rate})
    return began


def require_as_it_began(options: Options, began: Options, run: Path) -> None:
    """Check that what is given now is what a run began with.

    Raises:
        OptionError: When an option is given that the run does not have.
    """
    for entry in fields(options):
        mine, its = getattr(options, entry.name), getattr(began, entry.name)
        if changed(options, (entry.name,)) and mine != its:
            raise OptionError(
                f"{flag_of(entry)}: got {mine}, and the run in {run} began with {its}; leave the "
                "option out to go on as it began, or begin anew with --overwrite"
            )


def recorded_options(run: Path) -> Mapping[str, Any]:
    """The content of a run's options.json, of a run that has not come to its end.

    Raises:
        OutputError: When there is none.
    """
    if (run / METRICS).exists():
        raise OutputError(
            f"{run}: has come to its end already; predict with -m {run}, or begin anew with "
            "--overwrite"
        )
    path = run / OPTIONS
    if not path.is_file():
        raise OutputError(
            f"{run}: nothing to go on with, it has no {OPTIONS}; name the --output of a run that "
            "was stopped, or leave out --resume to begin one"
        )
    if not (run / SPLIT).is_file():
        raise OutputError(
            f"{run}: nothing to go on with, it was stopped before it had written {SPLIT}; begin "
            "anew with --overwrite"
        )
    try:
        recorded = json.loads(path.read_text("utf-8"))
        known = {entry.name for entry in fields(FinetuneOptions)} - set(_OF_THE_CALL)
        if not set(dict(recorded[GIVEN])) <= known:
            raise ValueError("it has options that are not known")
        return dict(recorded)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path}: is damaged, or of another version of transferkit ({error}); begin anew with "
            "--overwrite"
        ) from error
