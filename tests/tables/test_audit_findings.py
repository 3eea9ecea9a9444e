"""audit.csv: a row per finding, empty where a column says nothing."""

import csv

from transferkit.tables.audit_findings import COLUMNS, Finding, Kind, write_findings


def test_write_findings__has_a_row_for_each(tmp_path):
    findings = [
        Finding(Kind.LABEL, "a/1.jpg", 0.98765, "labelled a, looks like b", suggested_label="b"),
        Finding(Kind.COPY, "a/2, or 3.jpg", 1.0, "exact copy of b/2.jpg", group=7),
        Finding(Kind.SMALL, "", 0.5, "b: 10 images"),
    ]
    write_findings(tmp_path / "audit.csv", findings)
    with (tmp_path / "audit.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))

    assert rows == [
        list(COLUMNS),
        ["a/1.jpg", "label", "0.9877", "b", "", "labelled a, looks like b"],
        ["a/2, or 3.jpg", "copy", "1.0000", "", "7", "exact copy of b/2.jpg"],
        ["", "small", "0.5000", "", "", "b: 10 images"],
    ]
