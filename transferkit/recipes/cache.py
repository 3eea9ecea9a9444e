"""List and clear the caches on disk."""

from transferkit.errors import UnknownNameError
from transferkit.options.cache import CacheOptions
from transferkit.row_cache import EntrySummary, list_entries, remove_entries


def cache(options: CacheOptions) -> list[EntrySummary]:
    """Return the named cache entries, or all if none is named; `clear` also removes them.

    Raises:
        UnknownNameError: When there is no such entry.
    """
    known = {entry.key: entry for entry in list_entries()}
    for key in options.entries:
        if key not in known:
            raise UnknownNameError("cache entry", key, known, "see: transferkit cache")
    chosen = [known[key] for key in options.entries or known]
    if options.clear:
        remove_entries(entry.key for entry in chosen)
    return chosen
