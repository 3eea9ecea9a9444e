"""Writers of the two tables that transferkit hands out: predictions and features.

A format is one enum member and one row below. Needs neither numpy nor pyarrow to be imported.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferkit.errors import OptionError
from transferkit.files import json_text, utf8_text, whole_file
from transferkit.reporting import LeftOut

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PredictionFormat(StrEnum):
    """How predictions are written; `table` is for people to read in a terminal."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class FeatureFormat(StrEnum):
    """How features are written; the file's suffix says which."""

    NPZ = "npz"
    PARQUET = "parquet"
    CSV = "csv"
    SAFETENSORS = "safetensors"


@dataclass(frozen=True)
class Prediction:
    """What is said of one input.

    Attributes:
        path: The input, as it was given.
        label: The most probable class; None for an error or below the confidence asked for.
        confidence: The highest probability; None for an error.
        top: (label, probability) of the most probable classes, falling.
        error: Why the input could not be read; None where it could.
    """

    path: str
    label: str | None
    confidence: float | None
    top: tuple[tuple[str, float], ...]
    error: str | None = None

    def to_record(self) -> dict[str, Any]:
        """The prediction as JSON values."""
        return {
            "path": self.path,
            "status": "error" if self.error is not None else "ok",
            "label": self.label,
            "confidence": self.confidence,
            "top": [{"label": label, "probability": p} for label, p in self.top],
            "error": self.error,
        }


@dataclass(frozen=True)
class FeatureTable:
    """Features of a dataset, a row an image in the order of the index.

    Attributes:
        features: (N, D) float32.
        labels: (N,) int64, positions in `label_names`.
        label_names: Names of the classes.
        paths: N paths relative to the dataset.
        backbone: What made the features.
        layer: Where in it they were taken.
        preprocessing: What the pictures went through, JSON values.
        left_out: What the dataset holds and the table does not; not written.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]
    paths: tuple[str, ...]
    backbone: str
    layer: str
    preprocessing: Mapping[str, Any]
    left_out: tuple[LeftOut, ...] = ()


def format_predictions(
    predictions: Iterable[Prediction], kind: PredictionFormat, top_k: int
) -> Iterator[str]:
    """The text of a table of predictions, piece by piece as they come.

    Args:
        predictions: May be a generator that computes them.
        kind: json, jsonl or csv; parquet is no text, see `write_predictions`.
        top_k: How many classes a row of CSV has room for.
    """
    match kind:
        case PredictionFormat.JSONL:
            for prediction in predictions:
                yield json_text(prediction.to_record()) + "\n"
        case PredictionFormat.JSON:
            separator = "[\n"
            for prediction in predictions:
                yield separator + json_text(prediction.to_record())
                separator = ",\n"
            yield "\n]\n" if separator == ",\n" else "[]\n"
        case PredictionFormat.CSV:
            ranks = range(1, top_k + 1)
            columns = [f"{what}_{rank}" for rank in ranks for what in ("label", "probability")]
            yield _csv_line(["path", "status", "label", "confidence", "error", *columns])
            for prediction in predictions:
                yield _csv_line(_csv_values(prediction, top_k))
        case _:
            raise OptionError(f"--format: {kind} is not a text format; name a file with --output")


def write_predictions(
    predictions: Iterable[Prediction], path: Path, kind: PredictionFormat, top_k: int
) -> None:
    """Write predictions to a file, whole.

    Raises:
        OutputError: When the file cannot be written.
    """
    with whole_file(path) as temporary:
        if kind is PredictionFormat.PARQUET:
            _write_parquet_predictions(list(predictions), temporary)
            return
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.writelines(format_predictions(predictions, kind, top_k))


def format_of(path: Path, formats: type[StrEnum], option: str) -> Any:
    """The format that a file's suffix names.

    Raises:
        OptionError: When it names none of `formats`.
    """
    try:
        return formats(path.suffix.lower().removeprefix("."))
    except ValueError as error:
        known = ", ".join(f".{kind}" for kind in formats if kind != "table")
        raise OptionError(f"{option}: got {path}, expected a file ending in {known}") from error


def write_features(table: FeatureTable, path: Path, kind: FeatureFormat) -> None:
    """Write features to a file, whole.

    Raises:
        OutputError: When the file cannot be written.
    """
    with whole_file(path) as temporary:
        _FEATURE_WRITERS[kind](table, temporary)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole.

    Raises:
        OutputError: When the file cannot be written.
    """
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _csv_line(values: Sequence[object]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _csv_values(prediction: Prediction, top_k: int) -> list[object]:
    record = prediction.to_record()
    pairs = [value for pair in prediction.top for value in pair]
    padding = [None] * (2 * top_k - len(pairs))
    first = [record[key] for key in ("path", "status", "label", "confidence", "error")]
    return [*first, *pairs, *padding]


def _write_parquet_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pair = pa.struct([("label", pa.string()), ("probability", pa.float64())])
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("status", pa.string()),
            ("label", pa.string()),
            ("confidence", pa.float64()),
            ("top", pa.list_(pair)),
            ("error", pa.string()),
        ]
    )
    records = [_in_utf8(prediction).to_record() for prediction in predictions]
    pq.write_table(pa.Table.from_pylist(records, schema=schema), path)


def _in_utf8(prediction: Prediction) -> Prediction:
    # Parquet holds UTF-8 only; a file's or folder's name may be other bytes.
    return replace(
        prediction,
        path=utf8_text(prediction.path),
        label=None if prediction.label is None else utf8_text(prediction.label),
        top=tuple((utf8_text(label), probability) for label, probability in prediction.top),
    )


def _write_npz(table: FeatureTable, path: Path) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez(
            file,
            features=table.features,
            labels=table.labels,
            label_names=np.array(table.label_names, dtype=np.str_),
            paths=np.array(table.paths, dtype=np.str_),
            backbone=np.array(table.backbone),
            layer=np.array(table.layer),
            preprocessing=np.array(json.dumps(table.preprocessing)),
        )


def _columns(table: FeatureTable) -> dict[str, Any]:
    count = len(table.paths)
    return {
        "path": table.paths,
        "label": table.labels,
        "label_name": [table.label_names[label] for label in table.labels],
        "backbone": [table.backbone] * count,
        "layer": [table.layer] * count,
        "preprocessing": [json.dumps(table.preprocessing)] * count,
        **{f"feature_{i}": table.features[:, i] for i in range(table.features.shape[1])},
    }


def _write_parquet_features(table: FeatureTable, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns(table)
    for name in ("path", "label_name"):
        columns[name] = [utf8_text(text) for text in columns[name]]
    pq.write_table(pa.table(columns), path)


def _write_csv_features(table: FeatureTable, path: Path) -> None:
    columns = _columns(table)
    # repr of a float32 is its shortest exact form; str of a numpy scalar is the same.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_safetensors(table: FeatureTable, path: Path) -> None:
    from safetensors.numpy import save_file

    metadata = {
        "label_names": json.dumps(table.label_names),
        "paths": json.dumps(table.paths),
        "backbone": table.backbone,
        "layer": table.layer,
        "preprocessing": json.dumps(table.preprocessing),
    }
    save_file({"features": table.features, "labels": table.labels}, path, metadata)


_FEATURE_WRITERS: dict[FeatureFormat, Callable[[FeatureTable, Path], None]] = {
    FeatureFormat.NPZ: _write_npz,
    FeatureFormat.PARQUET: _write_parquet_features,
    FeatureFormat.CSV: _write_csv_features,
    FeatureFormat.SAFETENSORS: _write_safetensors,
}
