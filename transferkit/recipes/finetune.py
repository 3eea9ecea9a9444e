"""Train a classifier on a folder of images, and write a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferkit.data.scan import name_of
from transferkit.models.strategies import Strategy
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.parsers import AUTO
from transferkit.places import Place
from transferkit.processes import Processes, join
from transferkit.recipes.finetuning.read_dataset import read_dataset
from transferkit.recipes.finetuning.resuming import resumed_options
from transferkit.recipes.finetuning.run_in_progress import FinetuneResult, FinetuneRun, ShouldStop
from transferkit.reporter import SILENT, Outcome, Reporter, RunEnd, silent
from transferkit.run.folder import MODEL, REPORT_PAGE, chosen_folder
from transferkit.run.stopwatch import CHECKING, START_UP, Stopwatch
from transferkit.trackers import Tracker, require_installed
from transferkit.trackers.following import followed

if TYPE_CHECKING:
    from transferkit.data.dataset import Dataset
    from transferkit.models.network import Network

_Prepare = Callable[[FinetuneOptions, "Dataset", Reporter], "tuple[Network, Any]"]
_CarryOut = Callable[[FinetuneRun[Any]], FinetuneResult]


def finetune(
    options: FinetuneOptions,
    reporter: Reporter = SILENT,
    *,
    should_stop: ShouldStop = lambda row: False,
    began: float | None = None,
    comparison: Path | None = None,
) -> FinetuneResult:
    """Train a classifier as the options say, and write the run's folder.

    Where a launcher has started several processes, each calls this function, and they train one
    model together. The first one reports and writes, and alone returns metrics.

    Args:
        options: The dataset, the backbone, the strategy and the output folder.
        reporter: Receives the plan, the epochs, progress and notices.
        should_stop: Asked after every epoch but the last; True saves the state and pauses the
            run, whose result then has no metrics.
        began: When the process began, on the clock of `time.perf_counter`, if it carries out
            this run only. The time from then on counts as the run's start-up.
        comparison: Folder of the comparison that it belongs to; None for a run of its own.

    Raises:
        DataError: When the dataset cannot be used.
        WeightsError: When the backbone's weights are not available or do not fit.
        UnknownNameError: When there is no such backbone or optimizer.
        OptionError: When an option cannot work with this backbone or machine.
        OutputError: When the run's folder already exists or cannot be written.
        OtherProcessError: When another of several processes has ended.
        TransferKitError: When the loss is no longer finite, or a frozen tensor changed.
    """
    stopwatch = Stopwatch(began)
    options, processes = _joined(options)
    reporter, trackers = _listeners(options, reporter, processes)
    with (
        _shared_folder(options, processes) as folder,
        followed(reporter, trackers, comparison) as reporter,
    ):
        with stopwatch.part(START_UP):
            prepare, carry_out = _import_strategy(options)
        with stopwatch.part(CHECKING):
            dataset = read_dataset(options, reporter, processes)

        def prepared(chosen: FinetuneOptions, reporter: Reporter) -> FinetuneRun[Any]:
            network, settings = prepare(chosen, dataset, reporter)
            return FinetuneRun(
                chosen,
                dataset,
                network,
                settings,
                folder,
                reporter,
                stopwatch,
                should_stop,
                processes=processes,
            )

        result = carry_out(_chosen_run(options, prepared, reporter))
        _report_end(result, reporter)
    processes.finish()  # only now is everything written
    return result


def _listeners(
    options: FinetuneOptions, reporter: Reporter, processes: Processes
) -> tuple[Reporter, Sequence[Tracker]]:
    """Return the reporter and the trackers of this process; only the first one has any.

    Raises:
        OptionError: When the package of a tracker is not installed.
    """
    if not options.resume:  # which goes on without a tracker rather than not at all
        require_installed(options.log)
    trackers = options.log if options.trains else ()
    if processes.is_first:
        return reporter, trackers
    # What is read from the devices must be the same in all processes.
    return silent(follows_steps=reporter.follows_steps or bool(trackers)), ()


def _chosen_run(
    options: FinetuneOptions,
    prepared: Callable[[FinetuneOptions, Reporter], FinetuneRun[Any]],
    reporter: Reporter,
) -> FinetuneRun[Any]:
    """Return the run that the options describe, or that fits into their minutes."""
    if options.budget is None:
        return prepared(options, reporter)
    from transferkit.recipes.finetuning.choose_for_budget import choose_for_budget

    return choose_for_budget(options, prepared, reporter)


def _report_end(result: FinetuneResult, reporter: Reporter) -> None:
    """Report the end of a run that finished; one that was paused has no metrics."""
    if result.metrics and result.run is not None:
        model, page = result.run / MODEL, result.run / REPORT_PAGE
        has_page = page.is_file()
        end = RunEnd(Outcome.FINISHED, result.metrics, model, page if has_page else None)
        reporter.ended(end)


def _joined(options: FinetuneOptions) -> tuple[FinetuneOptions, Processes]:
    """Join the other processes of the run, and return its options, read back if it is resumed."""
    processes = join(options.processes if options.processes != AUTO else None)
    if options.resume:
        options = processes.from_first(lambda: resumed_options(options))
    options.require_processes_possible(processes.count)
    return options, processes


@contextmanager
def _shared_folder(options: FinetuneOptions, processes: Processes) -> Iterator[Place | None]:
    """Yield the run's folder, which the first process chooses; None for a dry run."""
    if options.dry_run:
        yield None
        return
    with chosen_run(options) if processes.is_first else nullcontext() as chosen:
        yield processes.from_first(lambda: chosen)


def _import_strategy(options: FinetuneOptions) -> tuple[_Prepare, _CarryOut]:
    """Import and return the two steps of the strategy: preparing a run, and carrying it out.

    Raises:
        UnknownNameError: When there is no such optimizer.
        OptionError: When the optimizer cannot be used here.
    """
    if options.strategy is Strategy.FEATURES:
        from transferkit.recipes.finetuning.fit_classifier import fit_on_features, prepare_features

        return prepare_features, fit_on_features
    from transferkit.recipes.finetuning.train_network import prepare_training, train_network
    from transferkit.training.optimizer import require_optimizer

    require_optimizer(options.optimizer)
    return prepare_training, train_network


def chosen_run(options: FinetuneOptions) -> AbstractContextManager[Place]:
    """Choose the run's folder; nothing is written or removed yet.

    Raises:
        OutputError: When the folder contains a run that may not be replaced, or something else,
            or another process writes there.
    """
    backbone = options.backbone.rsplit("/", 1)[-1].replace(":", "-")
    how = options.strategy if options.budget is None else f"{options.budget:g}min"
    return chosen_folder(options, f"{name_of(options.data)}-{backbone}-{how}")
