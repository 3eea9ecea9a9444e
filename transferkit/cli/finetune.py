"""`transferkit finetune`."""

import shlex
from collections.abc import Mapping
from typing import Any

from transferkit.cli.console import (
    describe_accuracy,
    describe_time,
    print_plan,
    print_range_test,
    standard_output,
)
from transferkit.cli.exits import exit_for_unreadable
from transferkit.cli.invocation import Invocation
from transferkit.cli.launch import launch, processes_to_start
from transferkit.cli.parameters import takes
from transferkit.options.finetune import FinetuneOptions
from transferkit.places import Place
from transferkit.processes import started_processes


@takes(FinetuneOptions)
def finetune(options: FinetuneOptions, invocation: Invocation) -> None:
    r"""Train a classifier on a folder of images with one subfolder per class.

    Examples:
        transferkit finetune photos
        transferkit finetune photos --unfreeze last:1 -o runs/photos
        transferkit finetune photos --budget 10
        transferkit finetune scans --group-by 'patient(\d+)' --dry-run

    Writes a run: the model, its metrics, the history, the split, every option, and report.html,
    a page that shows them.
    """
    from transferkit.recipes.finetune import finetune as recipe
    from transferkit.run.folder import RANGE_TEST_PLOT

    if (count := processes_to_start(options.processes, options.device)) > 1:
        launch(count)
        return
    result = recipe(options, invocation.reporter, began=invocation.began)
    if not started_processes().is_first:
        return
    console = standard_output()
    if result.run is None:
        print_plan(result.plan, console)
    elif result.range_test and not result.metrics:
        print_range_test(result.range_test, result.run / RANGE_TEST_PLOT, console)
    else:
        show_result(result.run, result.metrics)
    exit_for_unreadable(result.plan.left_out)


def show_result(run: Place, metrics: Mapping[str, Any]) -> None:
    """Print how good a run is, where it is, and how to predict with it."""
    from transferkit.run.folder import REPORT_PAGE

    val, baseline = metrics["val"], metrics["majority_baseline"]
    console = standard_output()
    console.print(
        f"val accuracy {describe_accuracy(val)} of {val['n']} images "
        f"(majority-class baseline: {baseline:.3f})",
        soft_wrap=True,
    )
    if test := metrics.get("test"):
        console.print(
            f"test accuracy {describe_accuracy(test)} of {test['n']} images", soft_wrap=True
        )
    console.print(describe_time(metrics), soft_wrap=True)
    print(f"run: {run}")
    if (run / REPORT_PAGE).is_file():
        print(f"report: {run / REPORT_PAGE}")
    print(f"predict with it: transferkit predict IMAGE... -m {shlex.quote(str(run))}")
