"""List what can be used as a backbone, and the layers of one."""

from fnmatch import fnmatch

from transferkit.errors import UnknownNameError
from transferkit.models import EDGES8, NO_WEIGHTS, PRETRAINED
from transferkit.models.backbones import create_network
from transferkit.models.catalogue import BackboneEntry, list_backbones
from transferkit.models.layer_table import LayerRow, list_layers
from transferkit.recipes.options import BackbonesOptions


def backbones(options: BackbonesOptions) -> list[BackboneEntry]:
    """The backbones whose names match, in the order of the catalogue.

    Raises:
        UnknownNameError: When none matches the pattern; close names are suggested.
    """
    entries = list(list_backbones())
    pattern = options.pattern if set("*?[") & set(options.pattern) else f"*{options.pattern}*"
    found = [entry for entry in entries if fnmatch(entry.name, pattern)]
    if not found:
        names = [entry.name for entry in entries]
        raise UnknownNameError("backbone", options.pattern, names, "leave the pattern out for all")
    return [entry for entry in found if entry.local or not options.local]


def layers(options: BackbonesOptions) -> list[LayerRow]:
    """The layers of one backbone that features can be taken from; needs no weights.

    Raises:
        UnknownNameError: When there is no such backbone.
        OptionError: When it cannot read pictures of the size asked for.
    """
    name = options.pattern
    weights = PRETRAINED if name == EDGES8 else NO_WEIGHTS
    network = create_network(name, weights=weights, image_size=options.image_size)
    return list_layers(network)
