"""Compare strategies, backbones and classifiers on one split: which is worth its time."""

import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from transferkit.data.dataset import Dataset
from transferkit.data.scan import name_of
from transferkit.metrics import majority_baseline
from transferkit.options.compare import CompareOptions
from transferkit.recipes.comparing.advice import advise
from transferkit.recipes.comparing.budget import carry_out_all
from transferkit.recipes.comparing.candidate_runs import CandidateRun, Runner, RunState
from transferkit.recipes.comparing.comparison_files import write_comparison
from transferkit.recipes.comparing.comparison_folder import (
    COMPARISON,
    require_same_data,
    resumed_options,
    write_setup,
)
from transferkit.recipes.comparing.rows import Comparison, comparison_rows
from transferkit.recipes.finetuning.read_dataset import read_dataset
from transferkit.reporter import SILENT, Reporter
from transferkit.run.folder import SPLIT, chosen_folder, claimed


def compare(options: CompareOptions, reporter: Reporter = SILENT) -> Comparison:
    """Run every candidate with every seed on one split, and compare them.

    Raises:
        DataError: When the dataset cannot be used, or has changed since a resumed comparison began.
        UnknownNameError: When there is no such backbone.
        WeightsError: When a backbone's weights are not available or do not fit.
        OptionError: When an option cannot work with a candidate.
        OutputError: When the folder exists or cannot be written.
    """
    began = time.monotonic()
    if options.resume:
        options = resumed_options(options)
    stem = f"{name_of(options.data)}-compare"
    with chosen_folder(options, stem, COMPARISON) as folder:
        assert isinstance(folder, Path)  # the option takes no address
        return _compare_in(folder, options, reporter, began)


def _compare_in(
    folder: Path, options: CompareOptions, reporter: Reporter, began: float
) -> Comparison:
    # With --val, the folders themselves determine the split.
    split = folder / SPLIT if options.resume and not options.val else options.split
    dataset = read_dataset(
        options.run_options(options.candidates[0], options.seed, split=split), reporter
    )
    if options.resume:
        require_same_data(folder, dataset)
    deadline = math.inf if options.budget is None else began + 60 * options.budget
    runner = Runner(options, folder, dataset, reporter, deadline)
    runs = _runs(runner)
    # Before anything is overwritten, so that an impossible candidate destroys no results.
    runner.dry_run([run for run in runs if run.is_open], split=split)
    _announce(runs, dataset, reporter)
    with claimed(folder, options, COMPARISON):
        if not options.resume:
            write_setup(folder, options, dataset)
        try:
            carry_out_all(runner, runs, options.epochs)
        except KeyboardInterrupt:
            reporter.notice(f"progress is kept; {_resume_hint(options, folder)}")
            raise
        comparison = _conclude(options, folder, dataset, runs)
        write_comparison(comparison, options, runs)
    return comparison


def _runs(runner: Runner) -> list[CandidateRun]:
    """Return all runs, seed by seed; a resumed comparison's runs are as they were left."""
    options = runner.options
    return [
        runner.candidate_run(candidate, seed)
        for seed in range(options.seed, options.seed + options.seeds)
        for candidate in options.candidates
    ]


def _announce(runs: Sequence[CandidateRun], dataset: Dataset, reporter: Reporter) -> None:
    reporter.left_out(dataset.index.left_out)
    counts = (
        _count(len({run.candidate for run in runs}), "candidate"),
        _count(len({run.seed for run in runs}), "seed"),
        f"{len(dataset.rows('train'))} training and {len(dataset.rows('val'))} validation images",
    )
    message = f"{counts[0]} with {counts[1]}, {counts[2]}"
    if done := sum(not run.is_open for run in runs):
        message += f"; {done} of {len(runs)} runs are done"
    if seconds := sum(run.estimate for run in runs if run.is_open):
        message += f"; training takes about {max(seconds / 60, 0.1):.1f} min"
    reporter.notice(message)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _conclude(
    options: CompareOptions, folder: Path, dataset: Dataset, runs: Sequence[CandidateRun]
) -> Comparison:
    labels, val = dataset.index.labels, dataset.rows("val")
    baseline = majority_baseline(labels[val], labels[dataset.rows("train")])
    rows = comparison_rows(runs)
    is_complete = all(run.state in (RunState.FINISHED, RunState.FAILED) for run in runs)
    return Comparison(
        folder=folder,
        rows=tuple(rows),
        advice=advise(rows, baseline),
        images=(len(dataset.rows("train")), len(val)),
        baseline=baseline,
        left_out=dataset.index.left_out,
        resume_hint="" if is_complete else _resume_hint(options, folder),
    )


def _resume_hint(options: CompareOptions, folder: Path) -> str:
    return (
        f"resume with: transferkit compare {shlex.quote(str(options.data))} "
        f"-o {shlex.quote(str(folder))} --resume"
    )
