"""List the backbones that can be used."""

from fnmatch import fnmatch

from transferkit.errors import UnknownNameError
from transferkit.models.catalogue import BackboneEntry, list_backbones
from transferkit.options.backbones import BackbonesOptions


def backbones(options: BackbonesOptions) -> list[BackboneEntry]:
    """Return the backbones whose names match, in the order of the catalogue.

    Raises:
        UnknownNameError: When no name matches the pattern; similar names are suggested.
    """
    entries = list(list_backbones())
    pattern = options.pattern if set("*?[") & set(options.pattern) else f"*{options.pattern}*"
    found = [entry for entry in entries if fnmatch(entry.name, pattern)]
    if not found:
        names = [entry.name for entry in entries]
        raise UnknownNameError(
            "backbone", options.pattern, names, "leave out the pattern to list all"
        )
    return [entry for entry in found if entry.local or not options.local]
