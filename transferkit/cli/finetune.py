"""`transferkit finetune`."""

import shlex

from transferkit.cli.console import print_plan, print_range_test, standard_output
from transferkit.cli.exits import exit_for_unreadable
from transferkit.cli.parameters import takes
from transferkit.cli.state import settings
from transferkit.recipes.options import FinetuneOptions


@takes(FinetuneOptions)
def finetune(options: FinetuneOptions) -> None:
    """Train a classifier on a folder of images, one subfolder a class.

    Leaves a run: the model, its metrics, the history, the split and every option.

    Example: transferkit finetune photos -b resnet18 --strategy partial --unfreeze last:1
    """
    from transferkit.recipes.finetune import finetune as recipe
    from transferkit.recipes.run_folder import RANGE_TEST_PLOT

    result = recipe(options, settings.reporter())
    console = standard_output()
    if result.run is None:
        print_plan(result.plan, console)
        exit_for_unreadable(result.plan.left_out)
        return
    if result.range_test and not result.metrics:
        print_range_test(result.range_test, result.run / RANGE_TEST_PLOT, console)
        exit_for_unreadable(result.plan.left_out)
        return
    val = result.metrics["val"]
    console.print(
        f"val accuracy {val['accuracy']:.3f} of {val['n']} images "
        f"(always the most frequent class: {result.metrics['majority_baseline']:.3f})"
    )
    print(f"run: {result.run}")
    print(f"predict with it: transferkit predict IMAGE... -m {shlex.quote(str(result.run))}")
    exit_for_unreadable(result.plan.left_out)
