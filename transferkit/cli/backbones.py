"""`transferkit backbones`."""

from rich.table import Column, Table

from transferkit.cli.console import standard_output
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.backbones import BackbonesOptions


@takes(BackbonesOptions)
def backbones(options: BackbonesOptions, invocation: Invocation) -> None:
    """List the backbones that can be used.

    Examples:
        transferkit backbones convnext
        transferkit backbones --local

    Prints a table in a terminal, and one name per line in a pipe. Of the weights, the default comes
    first; licence and origin are its own.
    """
    from transferkit.recipes.backbones import backbones as recipe

    entries = recipe(options)
    console = standard_output()
    if not entries:
        invocation.reporter.notice(
            "none of them is on this machine; the first use of --weights pretrained downloads one, "
            "or name a file with --weights PATH"
        )
    elif not console.is_terminal:
        print("\n".join(entry.name for entry in entries))
    else:
        table = Table(
            Column("backbone", no_wrap=True),
            Column("weights", overflow="fold"),
            Column("licence", overflow="fold"),
            Column("from", overflow="fold", max_width=19),
            "here",
        )
        for entry in entries:
            weights, here = ", ".join(entry.weights), "yes" if entry.local else ""
            table.add_row(entry.name, weights, entry.licence, entry.origin, here)
        console.print(table)
