"""Load the model of a run, or a pretrained network."""

from transferkit.bundle import ModelBundle
from transferkit.models.create_network import categories, create_network
from transferkit.options.shared import DEFAULT_BACKBONE, InputOptions
from transferkit.recipes.shared.backbone import tell_weights_note
from transferkit.reporter import Reporter


def load_bundle(model: str, reporter: Reporter) -> ModelBundle:
    """Return a model; the reporter is told if it has no names for its classes.

    Raises:
        BundleError: When it cannot be loaded.
    """
    bundle = ModelBundle.load(model)
    if not bundle.is_named:
        last = len(bundle.class_names) - 1
        reporter.notice(
            f"{model}: names no classes, so the labels are the numbers of its outputs, 0 to {last}"
        )
    return bundle


def load_model(options: InputOptions, reporter: Reporter) -> ModelBundle:
    """Return the model of a run, or a pretrained network with its own categories.

    The reporter is told if the options name neither.

    Raises:
        BundleError: When the model cannot be loaded.
        WeightsError: When the backbone's weights are not available.
    """
    if options.model:
        return load_bundle(options.model, reporter)
    network = create_network(options.backbone or DEFAULT_BACKBONE, weights=options.weights)
    tell_weights_note(network, reporter)
    names = categories(network)
    if not options.backbone:
        reporter.notice(
            f"no model was named, so the classes are the {len(names)} of {network.name}; name a "
            "model of yours with -m RUN"
        )
    return ModelBundle(network, names)
