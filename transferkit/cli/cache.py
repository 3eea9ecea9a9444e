"""`transferkit cache`."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from transferkit.cli.console import escape, print_rows, standard_output
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.cache import CacheOptions

if TYPE_CHECKING:
    from transferkit.row_cache import EntrySummary

_COLUMNS = ("entry", "what", "rows", "MB", "last used")


@takes(CacheOptions)
def cache(options: CacheOptions, invocation: Invocation) -> None:
    """List or clear what earlier runs have cached: outputs of frozen layers, and image checks.

    Examples:
        transferkit cache
        transferkit cache --clear

    Prints a table in a terminal, and CSV in a pipe. The cache is in $TRANSFERKIT_CACHE, or else
    in transferkit/ in the user's cache folder.
    """
    from transferkit.recipes.cache import cache as recipe
    from transferkit.row_cache import cache_folder

    entries = recipe(options)
    total = sum(entry.size for entry in entries)
    console = standard_output()
    if options.clear:
        console.print(f"removed {len(entries)} entries, {total / 1e6:.1f} MB", soft_wrap=True)
        return
    print_rows(_COLUMNS, [_cells(entry) for entry in entries], console)
    if console.is_terminal:
        console.print(f"{total / 1e6:.1f} MB in {escape(str(cache_folder()))}", soft_wrap=True)


def _cells(entry: "EntrySummary") -> Sequence[str]:
    return (
        entry.key,
        entry.what,
        str(entry.rows),
        f"{entry.size / 1e6:.1f}",
        datetime.fromtimestamp(entry.used).isoformat(" ", "minutes"),
    )
