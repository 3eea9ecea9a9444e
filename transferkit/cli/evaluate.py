"""`transferkit evaluate`."""

from typing import Any

from rich.table import Table

from transferkit.cli.console import describe_accuracy, escape, standard_output
from transferkit.cli.exits import exit_for_unreadable, write_result
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.files import json_text
from transferkit.options.evaluate import EvaluateOptions
from transferkit.reporter import LeftOut


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions, invocation: Invocation) -> None:
    """Measure a trained model on labelled images.

    Examples:
        transferkit evaluate new_photos -m runs/photos

    Prints a table in a terminal, and JSON in a pipe. Of a dataset with train/, val/ and test/
    folders, only test/ is measured. A notice counts the images that the model was trained on.
    """
    from transferkit.recipes.evaluate import evaluate as recipe

    metrics = recipe(options, invocation.reporter)
    console = standard_output()
    if options.output:
        print(f"{options.output}: accuracy {describe_accuracy(metrics)} of {metrics['n']} images")
    elif console.is_terminal:
        console.print(_summary_line(metrics))
        console.print(_class_table(metrics))
    else:
        write_result(json_text(metrics, indent=2) + "\n")
    exit_for_unreadable([LeftOut(**item) for item in metrics["left_out"]])


def _summary_line(metrics: dict[str, Any]) -> str:
    names = ("top5", "macro_f1", "log_loss", "ece")
    others = "  ".join(f"{name} {metrics[name]:.3f}" for name in names)
    return f"accuracy {describe_accuracy(metrics)}  {others}  n {metrics['n']}"


def _class_table(metrics: dict[str, dict[str, dict[str, float | None]]]) -> Table:
    table = Table("class")
    for column in ("precision", "recall", "f1", "n"):
        table.add_column(column, justify="right")
    for name, row in metrics["per_class"].items():
        values = (_share(row[key]) for key in ("precision", "recall", "f1"))
        table.add_row(escape(name), *values, str(row["n"]))
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
