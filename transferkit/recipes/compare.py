"""Strategies, backbones and classifiers on one split: which is worth its time."""

import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from transferkit.data.dataset import Dataset
from transferkit.metrics import majority_baseline
from transferkit.options.compare import CompareOptions
from transferkit.recipes.comparing.advice import advise
from transferkit.recipes.comparing.budget import carry_out_all
from transferkit.recipes.comparing.comparison_files import write_comparison
from transferkit.recipes.comparing.comparison_folder import (
    COMPARISON,
    require_same_data,
    resumed_comparison,
    write_beginning,
)
from transferkit.recipes.comparing.rows import Comparison, comparison_rows
from transferkit.recipes.comparing.runs import CandidateRun, Runner, RunState
from transferkit.recipes.finetuning.read_dataset import read_dataset
from transferkit.reporting import SILENT, Reporter
from transferkit.run.folder import SPLIT, choose_folder, claimed


def compare(options: CompareOptions, reporter: Reporter = SILENT) -> Comparison:
    """Carry out every candidate with every seed on one split, and compare them.

    Raises:
        DataError: When the dataset cannot be used, or has changed since what is resumed began.
        UnknownNameError: When there is no such backbone.
        WeightsError: When a backbone's weights cannot be had or do not fit.
        OptionError: When an option cannot work with a candidate.
        OutputError: When the folder is there already or cannot be written.
    """
    began = time.monotonic()
    if options.resume:
        options = resumed_comparison(options)
    folder = choose_folder(options, f"{options.data.resolve().name}-compare", COMPARISON)
    # A folder for validation says itself which images are where.
    again = folder / SPLIT if options.resume and not options.val else options.split
    dataset = read_dataset(
        options.run_options(options.candidates[0], options.seed, split=again), reporter
    )
    if options.resume:
        require_same_data(folder, dataset)
    deadline = math.inf if options.budget is None else began + 60 * options.budget
    runner = Runner(options, folder, dataset, reporter, deadline)
    runs = _runs(runner)
    # Before anything is replaced: what cannot be carried out must not cost what is there.
    runner.settle([run for run in runs if run.is_open], split=again)
    _tell(runs, dataset, reporter)
    with claimed(folder, options, COMPARISON):
        if not options.resume:
            write_beginning(folder, options, dataset)
        try:
            carry_out_all(runner, runs, options.epochs)
        except KeyboardInterrupt:
            reporter.notice(f"what is done is kept; {_go_on(options, folder)}")
            raise
        found = _conclude(options, folder, dataset, runs)
        write_comparison(found, options, runs)
    return found


def _runs(runner: Runner) -> list[CandidateRun]:
    """All runs, seed by seed; of a comparison that is resumed as they were left."""
    options = runner.options
    return [
        runner.run_of(candidate, seed)
        for seed in range(options.seed, options.seed + options.seeds)
        for candidate in options.candidates
    ]


def _tell(runs: Sequence[CandidateRun], dataset: Dataset, reporter: Reporter) -> None:
    reporter.left_out(dataset.index.left_out)
    counts = (
        _count(len({run.candidate for run in runs}), "candidate"),
        _count(len({run.seed for run in runs}), "seed"),
        f"{len(dataset.rows('train'))} training and {len(dataset.rows('val'))} validation images",
    )
    told = f"{counts[0]} with {counts[1]}, {counts[2]}"
    if done := sum(not run.is_open for run in runs):
        told += f"; {done} of {len(runs)} runs are done"
    if seconds := sum(run.estimate for run in runs if run.is_open):
        told += f"; what is trained takes about {max(seconds / 60, 0.1):.1f} min"
    reporter.notice(told)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _conclude(
    options: CompareOptions, folder: Path, dataset: Dataset, runs: Sequence[CandidateRun]
) -> Comparison:
    labels, val = dataset.index.labels, dataset.rows("val")
    baseline = majority_baseline(labels[val], labels[dataset.rows("train")])
    rows = comparison_rows(runs)
    is_whole = all(run.state in (RunState.FINISHED, RunState.FAILED) for run in runs)
    return Comparison(
        folder=folder,
        rows=tuple(rows),
        advice=advise(rows, baseline),
        images=(len(dataset.rows("train")), len(val)),
        baseline=baseline,
        left_out=dataset.index.left_out,
        go_on="" if is_whole else _go_on(options, folder),
    )


def _go_on(options: CompareOptions, folder: Path) -> str:
    return (
        f"go on with: transferkit compare {shlex.quote(str(options.data))} "
        f"-o {shlex.quote(str(folder))} --resume"
    )
