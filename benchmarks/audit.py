"""How much accuracy swapped labels cost, and how much the decisions of an auditor win back.

    python benchmarks/audit.py PHOTOS WEIGHTS OUT --shares 0.05 0.2 --ways linear head last:1

PHOTOS is a folder with one subfolder per class, WEIGHTS a file for ResNet18. Each seed sets aside a
quarter of each class as a test part, copies together, and swaps a share of the labels of the rest,
validation images included, to random other classes. `audit` judges the rest. The auditor looks at
every label that it names: a swapped one is set right, any other is kept. Each way of training then
learns from the true labels, from the swapped ones, and from these with the auditor's decisions, on
the same split and with the same seed, and is measured on the test part. Finished runs are kept in
OUT/results.jsonl and not repeated, so it may be interrupted; remove the file when settings change.
OUT/audit.md has the tables, with means over seeds and their 95 % intervals (Student's t; for the
share won back that of Fieller, Journal of the Royal Statistical Society B, 1954).
"""

import argparse
import csv
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

import transferkit
from transferkit.data.split import assign_splits
from transferkit.options.audit import AuditOptions
from transferkit.recipes.auditing.read_images import read_images
from transferkit.reporter import SILENT
from transferkit.tables.audit_findings import Kind

WAYS: dict[str, dict[str, Any]] = {
    "linear": {"strategy": "features", "classifier": "linear"},
    "svm": {"strategy": "features", "classifier": "svm"},
    "mlp": {"strategy": "features", "classifier": "mlp"},
    "knn": {"strategy": "features", "classifier": "knn"},
    "head": {},
    "last:1": {"unfreeze": "last:1", "epochs": 5},
    "full": {"strategy": "full", "epochs": 3},
}
TEST_SHARE, VAL_SHARE = 0.25, 0.2

Row = dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """The images with their part of the split and their labels, before and after the swapping.

    Attributes:
        parts: Path -> train, val or test.
        true: Path -> label.
        swapped: Path -> the wrong label of an image of train or val whose label was swapped.
    """

    parts: dict[str, str]
    true: dict[str, str]
    swapped: dict[str, str]


def main() -> None:
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.05])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    asked = parser.parse_args()
    asked.photos, asked.weights = asked.photos.resolve(), asked.weights.resolve()
    asked.out.mkdir(parents=True, exist_ok=True)
    results = asked.out / "results.jsonl"
    results.touch()
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    done = {(row["share"], row["seed"], row["what"]) for row in rows}
    for share, seed in product(asked.shares, asked.seeds):
        for what in ("audit", *asked.ways):
            if (share, seed, what) in done:
                continue
            row = {"share": share, "seed": seed, "what": what, **measure(asked, share, seed, what)}
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            rows.append(row)
            print(row, flush=True)
    text = f"{audit_table(rows)}\n\n{training_table(rows)}\n"
    (asked.out / "audit.md").write_text(text)
    print(text)


def measure(asked: argparse.Namespace, share: float, seed: int, what: str) -> Row:
    """Audit the labels of a share and a seed, or train in one of the ways on what that left."""
    folder = asked.out / f"{share:g} {seed}"
    model = {"backbone": "resnet18", "weights": str(asked.weights)}
    given = {**model, "root": asked.photos, "overwrite": True}
    if what != "audit":
        return train(what, seed, folder, given)
    labels = swap(asked.photos, share, seed)
    write_tables(labels, folder)
    return audit(labels, folder, given)


def swap(photos: Path, share: float, seed: int) -> Labels:
    """Divide the photographs, and swap a share of the labels outside the test part."""
    dataset = read_images(AuditOptions(photos), SILENT)
    index, random = dataset.index, np.random.default_rng(seed)
    content = (index, dataset.sha256, dataset.copies)
    first = assign_splits(*content, val_fraction=TEST_SHARE, seed=seed)
    test = {row: "test" for row, part in enumerate(first) if part == "val"}
    parts = assign_splits(*content, val_fraction=VAL_SHARE, seed=seed, known=test)
    rest = np.array([row for row in range(len(index)) if row not in test])
    planted = random.choice(rest, round(share * len(rest)), replace=False)
    count = len(index.class_names)
    wrong = (index.labels[planted] + random.integers(1, count, len(planted))) % count
    names = np.array(index.class_names)
    return Labels(
        dict(zip(index.paths, parts, strict=True)),
        dict(zip(index.paths, names[index.labels].tolist(), strict=True)),
        {index.paths[row]: str(names[label]) for row, label in zip(planted, wrong, strict=True)},
    )


def write_tables(labels: Labels, folder: Path) -> None:
    """Write tables of all images with true and with swapped labels, and of those to audit."""
    folder.mkdir(exist_ok=True)
    swapped = labels.true | labels.swapped
    for name, has in (("true", labels.true), ("swapped", swapped)):
        rows = [(path, has[path], part) for path, part in labels.parts.items()]
        write(folder / f"{name}.csv", ("path", "label", "split"), rows)
    rest = [(path, swapped[path]) for path, part in labels.parts.items() if part != "test"]
    write(folder / "rest.csv", ("path", "label"), rest)


def audit(labels: Labels, folder: Path, given: dict[str, Any]) -> Row:
    """Audit the rest, write the auditor's decisions, and count what was named."""
    audited = transferkit.audit(folder / "rest.csv", output=folder / "audit", **given)
    named = [finding.path for finding in audited.of_kind(Kind.LABEL)]
    decisions = [
        (path, "relabel", labels.true[path]) if path in labels.swapped else (path, "keep", "")
        for path in named
    ]
    write(folder / "decisions.csv", ("path", "action", "label"), decisions)
    planted = len(labels.swapped)
    return {
        "planted": planted,
        "named": len(named),
        "found": len(labels.swapped.keys() & set(named)),
        "found_first": len(labels.swapped.keys() & set(named[:planted])),
    }


def train(way: str, seed: int, folder: Path, given: dict[str, Any]) -> Row:
    """Return test accuracies after training on the true, the swapped and the decided labels."""
    tables = {
        "true": {"data": folder / "true.csv"},
        "swapped": {"data": folder / "swapped.csv"},
        "decided": {"data": folder / "swapped.csv", "decisions": folder / "decisions.csv"},
    }
    given = {**given, **WAYS[way], "output": folder / "run", "seed": seed, "report": False}
    return {
        name: transferkit.finetune(**data, **given).metrics["test"]["accuracy"]
        for name, data in tables.items()
    }


def write(file: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Write a CSV table."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([columns, *rows])


def audit_table(rows: list[Row]) -> str:
    """Return how many of the swapped labels were named, as Markdown."""
    lines = [
        "| Share | Seed | Swapped | Named | Swapped among them | Among the first |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["what"] == "audit":
            counts = (row["planted"], row["named"], row["found"], row["found_first"])
            cells = (f"{row['share']:.0%}", row["seed"], *counts)
            lines.append(f"| {' | '.join(map(str, cells))} of {row['planted']} |")
    return "\n".join(lines)


def training_table(rows: list[Row]) -> str:
    """Return accuracies, what the swapping cost and what was won back, as Markdown."""
    lines = [
        "| Share | Way | True | Swapped | Decided | Cost, points | Won back, points | Won back |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for share, way in dict.fromkeys((row["share"], row["what"]) for row in rows):
        if way == "audit":
            continue
        runs = [row for row in rows if (row["share"], row["what"]) == (share, way)]
        true, swapped, decided = (
            np.array([run[name] for run in runs]) for name in ("true", "swapped", "decided")
        )
        means = (f"{values.mean():.3f}" for values in (true, swapped, decided))
        cost, won = true - swapped, decided - swapped
        differences = (in_points(cost), in_points(won), ratio(won, cost))
        lines.append(f"| {share:.0%} | {' | '.join((way, *means, *differences))} |")
    return "\n".join(lines)


def in_points(differences: NDArray[np.float64]) -> str:
    """Return the mean of paired differences and its interval, in percentage points."""
    reach = quantile(len(differences)) * differences.std(ddof=1) / np.sqrt(len(differences))
    mean = differences.mean()
    return f"{100 * mean:.1f} ({100 * (mean - reach):.1f} to {100 * (mean + reach):.1f})"


def ratio(won: NDArray[np.float64], cost: NDArray[np.float64]) -> str:
    """Return the ratio of two paired means, with Fieller's interval where it is bounded."""
    count = len(won)
    noise = quantile(count) ** 2 * np.cov(won, cost) / count
    a = cost.mean() ** 2 - noise[1, 1]
    b = won.mean() * cost.mean() - noise[0, 1]
    c = won.mean() ** 2 - noise[0, 0]
    if a <= 0:
        return "not told: the cost may be 0"
    share, root = won.mean() / cost.mean(), np.sqrt(b * b - a * c)
    return f"{share:.0%} ({(b - root) / a:.0%} to {(b + root) / a:.0%})"


def quantile(count: int) -> float:
    """Return Student's quantile for a two-sided interval of 95 %."""
    return float(t.ppf(0.975, count - 1))


if __name__ == "__main__":
    main()
