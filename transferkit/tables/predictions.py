"""The table of predictions and its formats.

A format is one enum member and one case below. Importing this module imports neither numpy nor
pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from io import BytesIO, StringIO
from typing import Any

from transferkit.errors import OptionError
from transferkit.files import json_text, utf8_text, whole_file
from transferkit.places import Place
from transferkit.tables import csv_writer


class PredictionFormat(StrEnum):
    """Format of predictions; `table` is for reading in a terminal."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


FAILED = b"transferkit.failed"
"""Key in the metadata of a Parquet file for the number of rows that hold an error."""

_COLUMNS = (
    *("path", "status", "label", "confidence", "error"),
    *("abstained", "unusual", "unusual_score", "set"),
)
"""The first columns of CSV; those of the most probable classes follow."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one input.

    Attributes:
        path: The input as it was given.
        label: The most probable class; None if the input could not be read or the confidence is
            below the minimum.
        confidence: The highest probability; None if the input could not be read.
        abstained: Whether there is no label because the confidence is below the minimum.
        top: (label, probability) of the most probable classes, the most probable first.
        set: Labels that hold the right one with the wanted coverage, the most probable first; None
            if no sets were asked for, or the input could not be read.
        unusual: Whether it is unlike the validation images; None if that is not known.
        unusual_score: How unlike them it is, from 0 to 2; None if that is not known.
        error: Why the input could not be read; None if it could.
    """

    path: str
    label: str | None
    confidence: float | None
    top: tuple[tuple[str, float], ...]
    error: str | None = None
    abstained: bool = False
    set: tuple[str, ...] | None = None
    unusual: bool | None = None
    unusual_score: float | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the prediction as JSON values."""
        return {
            "path": self.path,
            "status": "error" if self.error is not None else "ok",
            "label": self.label,
            "confidence": self.confidence,
            "abstained": self.abstained,
            "set": None if self.set is None else list(self.set),
            "unusual": self.unusual,
            "unusual_score": self.unusual_score,
            "top": [{"label": label, "probability": p} for label, p in self.top],
            "error": self.error,
        }


def format_predictions(
    predictions: Iterable[Prediction], kind: PredictionFormat, top_k: int
) -> Iterator[str]:
    """Yield the text of a table of predictions, in pieces as the predictions arrive.

    Args:
        predictions: Predictions; a generator may compute them.
        kind: json, jsonl or csv; for parquet, which is binary, see `written_predictions`.
        top_k: Number of classes in a row of CSV.
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
            yield _csv_line([*_COLUMNS, *columns])
            for prediction in predictions:
                yield _csv_line(_csv_values(prediction, top_k))
        case _:
            raise OptionError(f"--format: {kind} is not a text format; name a file with --output")


def written_predictions(
    predictions: Iterable[Prediction], path: Place, kind: PredictionFormat, top_k: int
) -> Iterator[Prediction]:
    """Yield predictions, and write them to a file, which is there once all have been taken.

    Raises:
        OutputError: When the file cannot be written.
    """
    taken: list[Prediction] = []

    def passing() -> Iterator[Prediction]:
        for prediction in predictions:
            taken.append(prediction)
            yield prediction

    with whole_file(path) as temporary:
        if kind is PredictionFormat.PARQUET:
            yield from passing()
            temporary.write_bytes(parquet_of(taken))
            return
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            for text in format_predictions(passing(), kind, top_k):
                file.write(text)
                yield from taken
                taken.clear()


def _csv_line(values: Sequence[object]) -> str:
    text = StringIO()
    csv_writer(text).writerow(values)
    return text.getvalue()


def _csv_values(prediction: Prediction, top_k: int) -> list[object]:
    record = prediction.to_record()
    pairs = [value for pair in prediction.top for value in pair]
    padding = [None] * (2 * top_k - len(pairs))
    # A label may contain any separator but those of JSON.
    labels = None if prediction.set is None else json_text(record["set"])
    first = [record[key] for key in _COLUMNS[:-1]]
    return [*first, labels, *pairs, *padding]


def parquet_of(predictions: Sequence[Prediction]) -> bytes:
    """Return predictions as the content of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pair = pa.struct([("label", pa.string()), ("probability", pa.float64())])
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("status", pa.string()),
            ("label", pa.string()),
            ("confidence", pa.float64()),
            ("abstained", pa.bool_()),
            ("set", pa.list_(pa.string())),
            ("unusual", pa.bool_()),
            ("unusual_score", pa.float64()),
            ("top", pa.list_(pair)),
            ("error", pa.string()),
        ]
    )
    records = [_in_utf8(prediction).to_record() for prediction in predictions]
    schema = schema.with_metadata({FAILED: str(sum(p.error is not None for p in predictions))})
    content = BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema=schema), content)
    return content.getvalue()


def _in_utf8(prediction: Prediction) -> Prediction:
    # Parquet holds UTF-8 only; the name of a file or folder may contain other bytes.
    return replace(
        prediction,
        path=utf8_text(prediction.path),
        label=None if prediction.label is None else utf8_text(prediction.label),
        set=None if prediction.set is None else tuple(map(utf8_text, prediction.set)),
        top=tuple((utf8_text(label), probability) for label, probability in prediction.top),
    )
