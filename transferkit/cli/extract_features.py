"""`transferkit extract-features`."""

from transferkit.cli.exits import exit_for_unreadable
from transferkit.cli.finetune import show_result
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.extract_features import ExtractFeaturesOptions


@takes(ExtractFeaturesOptions)
def extract_features(options: ExtractFeaturesOptions, invocation: Invocation) -> None:
    """Write the features of every image of a dataset, for scikit-learn.

    Examples:
        transferkit extract-features photos -o features.npz
        transferkit extract-features photos --classifier svm -o runs/photos
        transferkit extract-features archive --on ray -o features

    Rows are in plain sorted order of the paths. An .npz file holds features, labels, label_names,
    paths, columns, backbone, layer, pool and preprocessing. With --classifier, the command fits
    one on the features, as finetune --strategy features does, and writes a run instead of a file.
    """
    if options.classifier:
        from transferkit.recipes.extract_features import to_finetune_options
        from transferkit.recipes.finetune import finetune

        of_run = to_finetune_options(options)
        result = finetune(of_run, invocation.reporter, began=invocation.began)
        assert of_run.output
        show_result(of_run.output, result.metrics)
        exit_for_unreadable(result.plan.left_out)
        return
    from transferkit.recipes.extract_features import extract_features as recipe

    written = recipe(options, invocation.reporter)
    rows, *shape = written.shape
    width = " x ".join(map(str, shape))
    print(f"{written.output}: {rows} images x {width} features of {written.backbone}")
    exit_for_unreadable(written.left_out)
