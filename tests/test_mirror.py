"""Tests mirror the package: those of a module are in `tests/<package>/test_<module>.py`.

A module without such a file has a row here that names the file that covers it, usually the tests of
the command that uses it.
"""

import ast
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "transferkit"

COVERED_BY = {
    "__init__.py": "test_architecture.py",
    "__main__.py": "test_architecture.py",
    "api.py": "recipes/test_finetune.py",
    "attribution/__init__.py": "recipes/test_explain.py",
    "attribution/layer_views.py": "attribution/test_explainer.py",
    "attribution/surrogate.py": "attribution/test_explainer.py",
    "classifiers/__init__.py": "classifiers/test_fitting.py",
    "cli/audit.py": "recipes/test_audit.py",
    "cli/compare.py": "recipes/test_compare.py",
    "cli/explain.py": "recipes/test_explain.py",
    "cli/invocation.py": "cli/test_parameters.py",
    "cli/report.py": "recipes/test_report.py",
    "cli/settings_parameters.py": "options/test_settings_file.py",
    "data/bad_images.py": "data/test_check.py",
    "data/colour.py": "data/test_images.py",
    "durations.py": "cli/test_console.py",
    "data/dataset.py": "recipes/finetuning/test_read_dataset.py",
    "data/folders.py": "data/test_layout.py",
    "data/threads.py": "data/test_loader.py",
    "data/views.py": "test_frozen_layers.py",
    "cli/export.py": "recipes/test_export.py",
    "compute.py": "test_forward_pass.py",
    "export_formats.py": "recipes/test_export.py",
    "exported_model.py": "engines/test_onnx_file.py",
    "recipes/exporting/parity.py": "recipes/test_export.py",
    "recipes/exporting/run_images.py": "recipes/test_export.py",
    "recipes/shared/load_model.py": "recipes/test_predict.py",
    "recipes/shared/predictor.py": "recipes/test_export.py",
    "report/embedding.py": "test_notebook.py",
    "run/model_folder.py": "test_bundle.py",
    "run/stored_model.py": "test_stores.py",
    "engines/__init__.py": "test_forward_pass.py",
    "engines/conversion.py": "test_forward_pass.py",
    "engines/conversion_cache.py": "test_forward_pass.py",
    "network_outputs.py": "test_forward_pass.py",
    "models/__init__.py": "models/test_create_network.py",
    "models/anatomy/blank_pass.py": "models/anatomy/test_layer_table.py",
    "models/digests.py": "models/test_weights.py",
    "models/downloads.py": "test_hub.py",
    "models/network.py": "models/test_create_network.py",
    "models/timm_source.py": "models/test_create_network.py",
    "models/torchvision_source.py": "models/test_create_network.py",
    "options/audit.py": "recipes/test_audit.py",
    "options/backbones.py": "cli/test_backbones.py",
    "options/cache.py": "cli/test_cache.py",
    "options/evaluate.py": "recipes/test_evaluate.py",
    "options/explain.py": "recipes/test_explain.py",
    "options/export.py": "recipes/test_export.py",
    "options/extract_features.py": "recipes/test_extract_features.py",
    "options/inspect.py": "recipes/test_inspect.py",
    "options/report.py": "recipes/test_report.py",
    "options/declaration.py": "cli/test_parameters.py",
    "options/parsers.py": "options/test_values.py",
    "options/recorded.py": "recipes/finetuning/test_resuming.py",
    "options/answering.py": "cli/test_predict.py",
    "options/predict.py": "cli/test_predict.py",
    "options/serve.py": "recipes/test_serve.py",
    "options/shared.py": "cli/test_exits.py",
    "options/rate_options.py": "options/test_finetune.py",
    "options/tracker_options.py": "trackers/test_trackers.py",
    "options/dataset_options.py": "test_labels_from_tables.py",
    "recipes/auditing/audit_result.py": "recipes/test_audit.py",
    "recipes/auditing/compute_features.py": "recipes/test_audit.py",
    "recipes/auditing/read_images.py": "recipes/test_audit.py",
    "recipes/backbones.py": "cli/test_backbones.py",
    "recipes/cache.py": "cli/test_cache.py",
    "recipes/comparing/comparison_files.py": "recipes/test_compare.py",
    "recipes/comparing/comparison_folder.py": "recipes/test_compare.py",
    "recipes/comparing/rows.py": "recipes/test_compare.py",
    "recipes/comparing/candidate_runs.py": "recipes/test_compare.py",
    "recipes/extracting/extraction.py": "recipes/test_extract_features.py",
    "recipes/finetuning/calibrate.py": "recipes/test_confidence_of_runs.py",
    "recipes/finetuning/measure_usual.py": "recipes/test_confidence_of_runs.py",
    "recipes/finetuning/outputs.py": "recipes/test_finetune.py",
    "recipes/finetuning/run_in_progress.py": "recipes/test_finetune.py",
    "recipes/finetuning/pace.py": "recipes/finetuning/test_estimate.py",
    "recipes/finetuning/settings.py": "recipes/finetuning/test_resolve_settings.py",
    "recipes/finetuning/create_setup.py": "recipes/finetuning/test_train_network.py",
    "recipes/predicting/answer.py": "recipes/test_confidence_of_runs.py",
    "recipes/shared/backbone.py": "recipes/test_extract_features.py",
    "recipes/shared/compute_settings.py": "recipes/test_finetune.py",
    "recipes/shared/inputs.py": "recipes/test_predict.py",
    "report/panels.py": "recipes/test_explain.py",
    "report/plots.py": "recipes/finetuning/test_train_network.py",
    "report/run_contents.py": "recipes/test_report.py",
    "reporter.py": "cli/test_console.py",
    "serving/refusal.py": "serving/test_app.py",
    "serving/service.py": "serving/test_app.py",
    "trackers/kept_id.py": "trackers/test_trackers.py",
    "trackers/to_csv.py": "trackers/test_trackers.py",
    "trackers/to_tensorboard.py": "trackers/test_trackers.py",
    "trackers/to_wandb.py": "trackers/test_trackers.py",
    "training/state.py": "training/test_loop.py",
    "training/setup.py": "training/test_loop.py",
    "training/step.py": "test_memory.py",
}
"""Module -> the test file that covers it, for modules without a file of their own."""

ACROSS_MODULES = {
    "cli/test_completion.py": "what the shell completes",
    "gpu/test_copies_on_gpu.py": "batches on a GPU",
    "gpu/test_several_gpus.py": "what several GPUs train together",
    "gpu/test_training_on_gpu.py": "runs on a GPU",
    "recipes/finetuning/test_placement.py": "where tensors are, on a machine with a GPU",
    "recipes/finetuning/test_train_together.py": "what several processes train together",
    "recipes/test_confidence_of_runs.py": "what a run knows of its confidence, in every record",
    "serving/test_page.py": "the page of a served model, in a browser",
    "test_architecture.py": "the rules of the package",
    "test_contract.py": "freezing, on all families of networks",
    "test_docs.py": "what the documents show",
    "test_hostile.py": "damaged and odd files, through the commands",
    "test_image_shapes.py": "images that are not square, and networks of one channel",
    "test_hub.py": "downloads, through a server",
    "test_installing.py": "extras, and what a container gets",
    "test_killed_processes.py": "what killed processes leave behind",
    "test_labels_from_tables.py": "whole commands on a table of paths and labels",
    "test_mirror.py": "where tests belong",
    "test_properties.py": "what holds for every name, layout and image",
    "test_readme.py": "README.md",
    "test_stores.py": "whole commands on what is in stores and archives",
    "test_sample_data.py": "the images in sample_data/",
}
"""Test files that mirror no module, and what they are about."""


def modules() -> set[str]:
    """Return the modules that hold more than a docstring."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if len(ast.parse(path.read_text("utf-8")).body) > 1
    }


def present() -> set[str]:
    """Return the test files."""
    return {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}


def mirror_of(module: str) -> str:
    """Return the test file of a module; for an `__init__.py` it has the package's name."""
    path = PACKAGE / module
    name = path.parent.name if path.stem == "__init__" else path.stem
    return path.with_name(f"test_{name}.py").relative_to(PACKAGE).as_posix()


def test_every_module__has_its_tests_or_a_row():
    without = {module for module in modules() if mirror_of(module) not in present()}

    assert without - COVERED_BY.keys() == set()


def test_rows__are_of_modules_without_tests_of_their_own():
    assert COVERED_BY.keys() - modules() == set()
    assert {module for module in COVERED_BY if mirror_of(module) in present()} == set()


def test_rows__name_test_files_that_exist():
    assert set(COVERED_BY.values()) - present() == set()


def test_every_test_file__mirrors_a_module_or_says_what_it_is_about():
    mirrored = {mirror_of(module) for module in modules()}

    assert present() - mirrored == ACROSS_MODULES.keys()
