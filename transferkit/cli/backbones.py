"""`transferkit backbones`."""

from rich.table import Table

from transferkit.cli.console import print_rows, standard_output
from transferkit.cli.parameters import takes
from transferkit.cli.state import settings
from transferkit.recipes.options import BackbonesOptions


@takes(BackbonesOptions)
def backbones(options: BackbonesOptions) -> None:
    """List what can be used as a backbone, or the layers of one.

    A table in a terminal; in a pipe a name a line, or with --layers CSV.

    Example: transferkit backbones resnet18 --layers
    """
    if options.layers:
        _show_layers(options)
        return
    from transferkit.recipes.backbones import backbones as recipe

    entries = recipe(options)
    console = standard_output()
    if not entries:
        settings.reporter().notice(
            "none of them is on this machine; the first use of --weights pretrained downloads one, "
            "or give a file with --weights PATH"
        )
    elif not console.is_terminal:
        print("\n".join(entry.name for entry in entries))
    else:
        table = Table("backbone", "published weights (default first)", "here")
        for entry in entries:
            table.add_row(entry.name, ", ".join(entry.weights), "yes" if entry.local else "")
        console.print(table)


def _show_layers(options: BackbonesOptions) -> None:
    from transferkit.recipes.backbones import layers as recipe

    rows = recipe(options)
    console = standard_output()
    columns = ("layer", "module", "output", "stride", "receptive field", "parameters")
    shown = [
        (
            row.name,
            row.kind,
            " x ".join(map(str, row.output)),
            "" if row.stride is None else str(row.stride),
            "" if row.receptive_field is None else str(row.receptive_field),
            str(row.parameters),
        )
        for row in rows
    ]
    print_rows(columns, shown, console)
    if console.is_terminal:
        console.print("stride and receptive field in pixels; none where there is no map of its own")
