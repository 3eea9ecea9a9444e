"""The record of a run: damaged files raise an error."""

import shutil

import pytest

from transferkit.errors import BundleError
from transferkit.run.record import read_run


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plan.json", '{"settings": []}'),
        ("options.json", "{"),
        ("options.json", "{}"),
        ("options.json", "[]"),
        ("metrics.json", "{}"),
        ("val_predictions.npz", "no archive"),
        ("history.csv", "epoch\n1\n"),
        ("split.csv", "path\na\n"),
    ],
)
def test_read_run__refuses_a_damaged_file(run_folder, tmp_path, name, content):
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    (copy / name).write_text(content)

    with pytest.raises(BundleError, match="is damaged"):
        read_run(copy)
