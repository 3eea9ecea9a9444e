"""Tables of predictions: every format can be read back without loss."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from transferkit.tables.predictions import (
    Prediction,
    PredictionFormat,
    format_predictions,
    written_predictions,
)

PREDICTIONS = [
    Prediction(
        "a, b.jpg",
        "Maine\nCoon",
        0.75,
        (("Maine\nCoon", 0.75), ('"q"', 0.25)),
        set=("Maine\nCoon", '"q"'),
        unusual=True,
        unusual_score=0.5,
    ),
    Prediction("ü 猫.jpg", None, None, (), "truncated"),
    Prediction("c.jpg", None, 0.5, (("x", 0.5), ("y", 0.5)), abstained=True),
]
RECORDS = [
    {
        "path": "a, b.jpg",
        "status": "ok",
        "label": "Maine\nCoon",
        "confidence": 0.75,
        "abstained": False,
        "set": ["Maine\nCoon", '"q"'],
        "unusual": True,
        "unusual_score": 0.5,
        "top": [
            {"label": "Maine\nCoon", "probability": 0.75},
            {"label": '"q"', "probability": 0.25},
        ],
        "error": None,
    },
    {
        "path": "ü 猫.jpg",
        "status": "error",
        "label": None,
        "confidence": None,
        "abstained": False,
        "set": None,
        "unusual": None,
        "unusual_score": None,
        "top": [],
        "error": "truncated",
    },
    {
        "path": "c.jpg",
        "status": "ok",
        "label": None,
        "confidence": 0.5,
        "abstained": True,
        "set": None,
        "unusual": None,
        "unusual_score": None,
        "top": [{"label": "x", "probability": 0.5}, {"label": "y", "probability": 0.5}],
        "error": None,
    },
]
READERS = {
    PredictionFormat.JSON: lambda path: json.loads(path.read_text("utf-8")),
    PredictionFormat.JSONL: lambda path: [
        json.loads(line) for line in path.read_text("utf-8").splitlines()
    ],
    PredictionFormat.PARQUET: lambda path: pq.read_table(path).to_pylist(),
}


@pytest.mark.parametrize("kind", READERS)
def test_written_predictions__can_be_read_back(tmp_path, kind):
    path = tmp_path / f"p.{kind}"
    passed = list(written_predictions(iter(PREDICTIONS), path, kind, top_k=2))

    assert passed == list(PREDICTIONS)
    assert READERS[kind](path) == RECORDS


def test_written_predictions__gives_csv_columns_for_every_rank(tmp_path):
    list(written_predictions(PREDICTIONS, tmp_path / "p.csv", PredictionFormat.CSV, top_k=2))
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        first, second, third = csv.DictReader(file)

    assert first == {
        "path": "a, b.jpg",
        "status": "ok",
        "label": "Maine\nCoon",
        "confidence": "0.75",
        "error": "",
        "abstained": "False",
        "unusual": "True",
        "unusual_score": "0.5",
        "set": '["Maine\\nCoon", "\\"q\\""]',
        "label_1": "Maine\nCoon",
        "probability_1": "0.75",
        "label_2": '"q"',
        "probability_2": "0.25",
    }
    assert (second["status"], second["error"], second["label_1"]) == ("error", "truncated", "")
    assert (second["set"], second["unusual"], third["abstained"]) == ("", "", "True")
    assert (third["label"], third["label_1"]) == ("", "x")


@pytest.mark.parametrize("kind", READERS)
def test_written_predictions__of_nothing_is_an_empty_table(tmp_path, kind):
    assert list(written_predictions([], tmp_path / "p", kind, top_k=2)) == []

    assert READERS[kind](tmp_path / "p") == []


@pytest.mark.parametrize("kind", READERS)
def test_written_predictions__leave_no_file_unless_all_are_taken(tmp_path, kind):
    passing = written_predictions(PREDICTIONS, tmp_path / "p", kind, top_k=2)
    assert next(passing) == PREDICTIONS[0]
    passing.close()

    assert list(tmp_path.iterdir()) == []


def test_format_predictions__yields_each_as_it_is_computed():
    def computed():
        yield PREDICTIONS[0]
        raise AssertionError("computed more than was read")

    pieces = format_predictions(computed(), PredictionFormat.JSONL, top_k=1)

    assert json.loads(next(pieces)) == RECORDS[0]
