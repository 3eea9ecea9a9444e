"""The table of predictions, and its formats.

A format is one enum member and one case below. Needs neither numpy nor pyarrow to be imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any

from transferkit.errors import OptionError
from transferkit.files import json_text, utf8_text, whole_file
from transferkit.tables import csv_writer


class PredictionFormat(StrEnum):
    """How predictions are written; `table` is for people to read in a terminal."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


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


def _csv_line(values: Sequence[object]) -> str:
    text = StringIO()
    csv_writer(text).writerow(values)
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
