"""The table of features, written in pieces so that it may be larger than memory.

A format is one enum member and one writer below. Importing this module imports neither numpy nor
pyarrow.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from transferkit.files import utf8_text, whole_file
from transferkit.places import Place
from transferkit.tables import csv_writer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNREADABLE = b"transferkit.unreadable"
"""Key in the metadata of a part of a table: path -> reason of the images without a row, as JSON."""

_PIECE = 8_000_000
"""Bytes of features that are in memory at once while a file is written."""


class FeatureFormat(StrEnum):
    """Format of a file of features, named by the file's suffix."""

    NPZ = "npz"
    PARQUET = "parquet"
    CSV = "csv"
    SAFETENSORS = "safetensors"

    @property
    def holds_maps(self) -> bool:
        """Whether a row may be a map instead of a vector."""
        return self in (FeatureFormat.NPZ, FeatureFormat.SAFETENSORS)


class Rows(Protocol):
    """An array of float32, in memory or on disk, that is read in slices of rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D) for vectors, (N, ...) for maps."""
        ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """Return a slice of rows."""
        ...


@dataclass(frozen=True)
class FeatureTable:
    """Features of a dataset, one row per image in the order of the index.

    Attributes:
        features: (N, D) float32 for vectors, (N, ...) for maps that are not pooled.
        labels: (N,) int64, positions in `label_names`.
        label_names: Names of the classes.
        paths: N paths relative to the dataset's folder.
        columns: D names of the features; for a map, of its numbers in order.
        backbone: Name of the backbone.
        layer: Layers whose outputs the features are, separated by commas.
        pool: Pooling of feature maps to vectors.
        preprocessing: Preprocessing of the images, as JSON values.
    """

    features: Rows
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]
    paths: tuple[str, ...]
    columns: tuple[str, ...]
    backbone: str
    layer: str
    pool: str
    preprocessing: Mapping[str, Any]

    def pieces(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the features in slices of a few rows."""
        count = self.features.shape[0]
        step = max(1, _PIECE // (4 * len(self.columns)))
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            yield rows, self.features[rows]


def write_features(table: FeatureTable, path: Place, kind: FeatureFormat) -> None:
    """Write features to a file, atomically.

    Raises:
        OutputError: When the file cannot be written.
    """
    with whole_file(path) as temporary:
        _WRITERS[kind](table, temporary)


def parquet_of(table: FeatureTable, unreadable: Mapping[str, str]) -> bytes:
    """Return a part of a table as the content of a Parquet file.

    Args:
        table: The rows of the part.
        unreadable: Path -> reason of the images of the part that could not be read.
    """
    content = BytesIO()
    _write_parquet(table, content, {UNREADABLE: json.dumps(unreadable)})
    return content.getvalue()


def _write_npz(table: FeatureTable, path: Path) -> None:
    import numpy as np

    small = {
        "labels": table.labels,
        "label_names": np.array(table.label_names, dtype=np.str_),
        "paths": np.array(table.paths, dtype=np.str_),
        "columns": np.array(table.columns, dtype=np.str_),
        "backbone": np.array(table.backbone),
        "layer": np.array(table.layer),
        "pool": np.array(table.pool),
        "preprocessing": np.array(json.dumps(table.preprocessing)),
    }
    header = {"descr": "<f4", "fortran_order": False, "shape": table.features.shape}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for _, piece in table.pieces():
                member.write(piece.astype("<f4", copy=False).tobytes())
        for name, array in small.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _described(table: FeatureTable, rows: slice) -> dict[str, list[object]]:
    """Return the columns other than the features, for a slice of rows."""
    labels = [int(label) for label in table.labels[rows]]
    fixed = {
        "backbone": table.backbone,
        "layer": table.layer,
        "pool": table.pool,
        "preprocessing": json.dumps(table.preprocessing),
    }
    return {
        "path": list(table.paths[rows]),
        "label": list(labels),
        "label_name": [table.label_names[label] for label in labels],
        **{name: [value] * len(labels) for name, value in fixed.items()},
    }


def _write_parquet(
    table: FeatureTable, file: Path | BytesIO, metadata: Mapping[bytes, str] | None = None
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def columns(rows: slice, piece: NDArray[np.float32]) -> dict[str, Any]:
        described: dict[str, Any] = _described(table, rows)
        for name in ("path", "label_name"):
            # Parquet holds UTF-8 only; the name of a file or folder may contain other bytes.
            described[name] = [utf8_text(text) for text in described[name]]
        return described | {name: piece[:, i] for i, name in enumerate(table.columns)}

    texts = ("backbone", "layer", "pool", "preprocessing")
    schema = pa.schema([
        ("path", pa.string()), ("label", pa.int64()), ("label_name", pa.string()),
        *((name, pa.string()) for name in texts),
        *((name, pa.float32()) for name in table.columns),
    ], metadata)  # fmt: skip
    with pq.ParquetWriter(file, schema) as writer:
        for rows, piece in table.pieces():
            writer.write_table(pa.table(columns(rows, piece), schema=schema))


def _write_csv(table: FeatureTable, path: Path) -> None:
    described = list(_described(table, slice(0, 0)))
    # The writer uses str(), which for a numpy float32 is its shortest exact form.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow([*described, *table.columns])
        for rows, piece in table.pieces():
            beside = zip(*_described(table, rows).values(), strict=True)
            writer.writerows([*left, *right] for left, right in zip(beside, piece, strict=True))


def _write_safetensors(table: FeatureTable, path: Path) -> None:
    """Write the format itself, a header and raw numbers: the library takes whole tensors only."""
    shape = table.features.shape
    labels = table.labels.astype("<i8").tobytes()
    size = 4 * shape[0] * len(table.columns)
    header = {
        "__metadata__": {
            "label_names": json.dumps(table.label_names),
            "paths": json.dumps(table.paths),
            "columns": json.dumps(table.columns),
            "backbone": table.backbone,
            "layer": table.layer,
            "pool": table.pool,
            "preprocessing": json.dumps(table.preprocessing),
        },
        "labels": {"dtype": "I64", "shape": [shape[0]], "data_offsets": [0, len(labels)]},
        "features": {
            "dtype": "F32",
            "shape": list(shape),
            "data_offsets": [len(labels), len(labels) + size],
        },
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + labels)
        for _, piece in table.pieces():
            file.write(piece.astype("<f4", copy=False).tobytes())


_WRITERS: dict[FeatureFormat, Callable[[FeatureTable, Path], None]] = {
    FeatureFormat.NPZ: _write_npz,
    FeatureFormat.PARQUET: _write_parquet,
    FeatureFormat.CSV: _write_csv,
    FeatureFormat.SAFETENSORS: _write_safetensors,
}
