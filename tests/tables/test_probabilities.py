"""Tables of probabilities: read back exactly, reproducible, and refused if damaged."""

import numpy as np
import pytest

from transferkit.errors import DataError, OutputError
from transferkit.tables.probabilities import (
    ProbabilityTable,
    read_probabilities,
    write_probabilities,
)

RANDOM = np.random.default_rng(0)
TABLE = ProbabilityTable(
    paths=("a/ü.png", "a/\udcff.png", "b/'.png"),
    labels=np.array([0, 0, 1]),
    label_names=("a", "b"),
    probabilities=RANDOM.dirichlet(np.ones(2), 3).astype(np.float32),
)


def test_probabilities__are_read_back_bit_for_bit(tmp_path):
    write_probabilities(TABLE, tmp_path / "p.npz")
    read = read_probabilities(tmp_path / "p.npz")

    assert (read.paths, read.label_names) == (TABLE.paths, TABLE.label_names)
    assert (read.labels == TABLE.labels).all()
    assert (read.probabilities == TABLE.probabilities).all()
    assert read.probabilities.dtype == np.float32


def test_probabilities__have_the_same_bytes_when_written_again(tmp_path):
    for name in ("1.npz", "2.npz"):
        write_probabilities(TABLE, tmp_path / name)

    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_write_probabilities__leaves_nothing_on_a_full_device(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_probabilities(TABLE, tmp_path / "p.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arrays",
    [
        {"paths": np.array(["a"])},
        {**vars(TABLE), "labels": np.array([0, 0, 2])},
        {**vars(TABLE), "labels": np.array([0])},
        {**vars(TABLE), "paths": np.array([{}], dtype=object)},
    ],
)
def test_read_probabilities__refuses_arrays_that_do_not_fit_together(tmp_path, arrays):
    np.savez(tmp_path / "p.npz", **arrays)

    with pytest.raises(DataError, match=r"p\.npz: "):
        read_probabilities(tmp_path / "p.npz")


def test_read_probabilities__refuses_other_and_missing_files(tmp_path):
    (tmp_path / "p.npz").write_bytes(b"PK\x03\x04 no archive")
    for name in ("p.npz", "none.npz"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as a table"):
            read_probabilities(tmp_path / name)
