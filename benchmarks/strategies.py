"""Compare the strategies on one dataset, each after the same search for its learning rate.

    python benchmarks/strategies.py DATA WEIGHTS OUT

WEIGHTS is a file for ResNet18. Every strategy tries three rates or more on a split that is used for
nothing else, then trains with the best of them on three others. Finished runs are kept in
OUT/results.jsonl and not repeated, so it may be interrupted; remove the file when settings change.
It writes OUT/table.md and OUT/partial_against_full.png. Accuracies are those of each run's best
epoch on its validation images, which flatters all strategies alike. Intervals come from resampling
the images, so they cover other images, but not other seeds.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from matplotlib.figure import Figure

import transferkit

STRATEGIES: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "head": ({}, (3e-3, 1e-2, 3e-2)),
    "full": ({"strategy": "full"}, (1e-3, 3e-3, 1e-2)),
    "full, one rate for all": (
        {"strategy": "full", "freeze_epochs": 0, "layer_decay": 1.0},
        (1e-4, 3e-4, 1e-3),
    ),
    "last:1": ({"unfreeze": "last:1"}, (1e-3, 3e-3, 1e-2)),
    "last:2": ({"unfreeze": "last:2"}, (1e-3, 3e-3, 1e-2)),
    "gradual": ({"strategy": "gradual"}, (1e-3, 3e-3, 1e-2)),
}
SEARCH_SEED, SEARCH_EPOCHS = 3, 5
SEEDS, EPOCHS = (0, 1, 2), 8
RATIO = 10**0.5

Row = dict[str, Any]


def main(data: Path, weights: Path, out: Path) -> None:
    """Run what is missing, then write the table and the figure."""
    out.mkdir(parents=True, exist_ok=True)
    done = out / "results.jsonl"

    def run(name: str, rate: float, seed: int, epochs: int) -> Row:
        key = f"{name} {rate:g} {seed} {epochs}"
        for line in done.read_text().splitlines() if done.exists() else ():
            if (row := json.loads(line))["key"] == key:
                return row
        row = {"key": key, **train(data, weights, out / "run", name, rate, seed, epochs)}
        with done.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(key, row["accuracy"], [round(a, 3) for a in row["by_epoch"]], flush=True)
        return row

    best = {name: search(name, run) for name in STRATEGIES}
    by_seed = [{name: run(name, best[name], s, EPOCHS) for name in STRATEGIES} for s in SEEDS]
    rows = {name: [of_seed[name] for of_seed in by_seed] for name in STRATEGIES}
    (out / "table.md").write_text(table(best, rows))
    draw({"partial: the head": rows["head"], "full": rows["full"]}, out)
    print((out / "table.md").read_text())


def train(
    data: Path, weights: Path, run: Path, name: str, rate: float, seed: int, epochs: int
) -> Row:
    """Train once; return the accuracy, also by epoch, and which validation images were right."""
    settings = dict(STRATEGIES[name][0])
    if "one rate" in name:
        settings["backbone_learning_rate"] = rate
    shutil.rmtree(run, ignore_errors=True)
    result = transferkit.finetune(
        data, run, backbone="resnet18", weights=str(weights), learning_rate=rate, seed=seed,
        epochs=epochs, patience=0, precision="bf16", views=0, report=False, **settings,
    )  # fmt: skip
    names = transferkit.ModelBundle.load(run).class_names
    guessed = [names[i] for i in result.val_probabilities.argmax(axis=1)]
    labels = [path.split("/")[0] for path in result.val_paths]
    return {
        "accuracy": result.metrics["val"]["accuracy"],
        "loss": result.metrics["val"]["log_loss"],
        "by_epoch": [row.val_accuracy for row in result.history],
        "seconds": sum(row.seconds for row in result.history),
        "paths": result.val_paths,
        "right": [int(a == b) for a, b in zip(guessed, labels, strict=True)],
    }


def search(name: str, run: Callable[[str, float, int, int], Row]) -> float:
    """Return the rate with the highest accuracy on the split for the search; ties go to lower loss.

    Where the best rate is the lowest or highest tried, the next one beyond it is tried too.
    """
    rates = list(STRATEGIES[name][1])
    while True:
        tried = {rate: run(name, rate, SEARCH_SEED, SEARCH_EPOCHS) for rate in rates}
        best = max(tried, key=lambda rate: (tried[rate]["accuracy"], -tried[rate]["loss"]))
        if min(rates) < best < max(rates):
            return best
        rates.append(float(f"{best * (RATIO if best == max(rates) else 1 / RATIO):.0e}"))


def table(best: Mapping[str, float], rows: Mapping[str, list[Row]]) -> str:
    """Return the results as Markdown, with the difference of full to each of the others."""
    lines = [
        "| strategy | --lr | val accuracy | 95 % interval | by seed | after the last epoch "
        "| time | full is better by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in rows.items():
        mean, low, high = resampled(runs)
        difference = "{:+.3f} ({:+.3f} to {:+.3f})".format(*resampled(rows["full"], runs))
        seeds = " ".join(f"{run['accuracy']:.3f}" for run in runs)
        # The fastest run of each, because other processes may have shared the machine.
        quickest = min(run["seconds"] for run in runs)
        times = quickest / min(run["seconds"] for run in rows["head"])
        lines.append(
            f"| {name} | {best[name]:g} | {mean:.3f} | {low:.3f} to {high:.3f} | {seeds} "
            f"| {after_last(runs):.3f} | {times:.1f} x | {'' if name == 'full' else difference} |"
        )
    return "\n".join(lines) + "\n"


def after_last(runs: Sequence[Row]) -> float:
    """Return the accuracy over all seeds after the last epoch, not chosen by validation."""
    right = sum(run["by_epoch"][-1] * len(run["right"]) for run in runs)
    return float(right / sum(len(run["right"]) for run in runs))


def resampled(runs: Sequence[Row], others: Sequence[Row] = ()) -> tuple[float, float, float]:
    """Return the accuracy over all seeds, or its difference from `others`, with its 95 % interval.

    A bootstrap over images, each with its answers from all seeds: Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, section 13.3.
    """
    right: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for sign, group in ((1, runs), (-1, others)):
        for run in group:
            for path, is_right in zip(run["paths"], run["right"], strict=True):
                right[path] += sign * is_right
                answers[path] += sign > 0
    images = sorted(answers)
    gained, asked = (np.array([counts[path] for path in images]) for counts in (right, answers))
    share = np.full(len(images), 1 / len(images))
    drawn = np.random.default_rng(0).multinomial(len(images), share, size=10_000)
    low, high = np.percentile((drawn @ gained) / (drawn @ asked), [2.5, 97.5])
    return float(gained.sum() / asked.sum()), float(low), float(high)


def draw(curves: Mapping[str, list[Row]], out: Path) -> None:
    """Draw the accuracy by epoch: the mean over the seeds, and their range."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, EPOCHS + 1)
    for name, runs in curves.items():
        by_epoch = np.array([run["by_epoch"] for run in runs])
        (line,) = axes.plot(epochs, by_epoch.mean(axis=0), marker="o", label=name)
        low, high = by_epoch.min(axis=0), by_epoch.max(axis=0)
        axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy")
    axes.set_title(f"Partial and full fine-tuning: mean and range of {len(SEEDS)} seeds")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(out / "partial_against_full.png", dpi=120)


if __name__ == "__main__":
    typer.run(main)
