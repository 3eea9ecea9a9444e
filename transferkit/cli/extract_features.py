"""`transferkit extract-features`."""

from transferkit.cli.exits import exit_for_unreadable
from transferkit.cli.parameters import takes
from transferkit.cli.state import settings
from transferkit.recipes.options import ExtractFeaturesOptions


@takes(ExtractFeaturesOptions)
def extract_features(options: ExtractFeaturesOptions) -> None:
    """Write the features of every image of a dataset, for scikit-learn.

    Rows stand in plain sorted order of the paths. An .npz file holds features, labels,
    label_names, paths, backbone, layer and preprocessing.

    Example: transferkit extract-features photos -b resnet18 -o features.npz
    """
    from transferkit.recipes.extract_features import extract_features as recipe

    table = recipe(options, settings.reporter())
    rows, columns = table.features.shape
    print(f"{options.output}: {rows} images x {columns} features of {table.backbone}")
    exit_for_unreadable(table.left_out)
