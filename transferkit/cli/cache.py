"""`transferkit cache`."""

from datetime import datetime

from transferkit.cli.console import escape, print_rows, standard_output
from transferkit.cli.parameters import takes
from transferkit.options.commands import CacheOptions


@takes(CacheOptions)
def cache(options: CacheOptions) -> None:
    """List what frozen layers gave and what was found in images, kept for later runs; or clear it.

    A table in a terminal, CSV in a pipe. It is in $TRANSFERKIT_CACHE, else in transferkit/ of the
    user's cache folder.

    Example: transferkit cache --clear
    """
    from transferkit.recipes.cache import cache as recipe
    from transferkit.row_cache import cache_folder

    entries = recipe(options)
    total = sum(entry.size for entry in entries)
    console = standard_output()
    if options.clear:
        console.print(f"removed {len(entries)} entries, {total / 1e6:.1f} MB", soft_wrap=True)
        return
    columns = ("entry", "what", "rows", "MB", "last used")
    shown = [
        (
            entry.key,
            entry.what,
            str(entry.rows),
            f"{entry.size / 1e6:.1f}",
            datetime.fromtimestamp(entry.used).isoformat(" ", "minutes"),
        )
        for entry in entries
    ]
    print_rows(columns, shown, console)
    if console.is_terminal:
        console.print(f"{total / 1e6:.1f} MB in {escape(str(cache_folder()))}", soft_wrap=True)
