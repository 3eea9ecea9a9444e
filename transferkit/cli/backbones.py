"""`transferkit backbones`."""

from rich.table import Table

from transferkit.cli.console import standard_output
from transferkit.cli.parameters import takes
from transferkit.cli.state import settings
from transferkit.options.commands import BackbonesOptions


@takes(BackbonesOptions)
def backbones(options: BackbonesOptions) -> None:
    """List what can be used as a backbone.

    A table in a terminal; in a pipe a name a line.

    Example: transferkit backbones convnext
    """
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
