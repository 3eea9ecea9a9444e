"""Train a classifier on a folder of images and leave a run that explains itself.

Imports none of the heavy libraries before it is called, and then while the images are read.
"""

from __future__ import annotations

from collections.abc import Callable

from transferkit.models.phases import Strategy
from transferkit.recipes.dataset import DatasetReading
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.recipes.job import FinetuneResult, Job
from transferkit.recipes.resuming import resumed_options
from transferkit.recipes.run_folder import choose_run
from transferkit.recipes.stopwatch import CHECKING, START_UP, Stopwatch
from transferkit.reporting import SILENT, Reporter


def finetune(options: FinetuneOptions, reporter: Reporter = SILENT) -> FinetuneResult:
    """Train as the options say and write the run's folder.

    Raises:
        DataError: When the dataset cannot be used.
        WeightsError: When the backbone's weights cannot be had or do not fit.
        UnknownNameError: When there is no such backbone or optimizer.
        OptionError: When an option cannot work with this backbone or machine.
        OutputError: When the run's folder is there already or cannot be written.
        TransferKitError: When the loss is no number, or a frozen tensor changed.
    """
    watch = Stopwatch()
    if options.resume:
        options = resumed_options(options)
    run = None if options.dry_run else choose_run(options)
    with DatasetReading(options, reporter) as reading:
        with watch.part(START_UP):
            carry_out = _import(options)
        with watch.part(CHECKING):
            dataset = reading.result()
    return carry_out(Job(options, dataset, run, reporter, watch))


def _import(options: FinetuneOptions) -> Callable[[Job], FinetuneResult]:
    """What carries the strategy out, with only what it needs imported.

    Raises:
        UnknownNameError: When there is no such optimizer.
        OptionError: When it cannot be used here.
    """
    if options.strategy is Strategy.FEATURES:
        from transferkit.recipes.fit_features import finetune_features

        return finetune_features
    from transferkit.recipes.fit_network import finetune_network
    from transferkit.training.optimizer import require_optimizer

    require_optimizer(options.optimizer)
    return finetune_network
