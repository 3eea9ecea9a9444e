"""Accuracy against seconds: transferkit beside its peers, from the same weights, in turn.

    python benchmarks/quality.py PHOTOS WEIGHTS OUT --epochs 1 5 --budgets 0.5 1 3 --seeds 0 1 2

PHOTOS is a folder with one subfolder per class, WEIGHTS a .safetensors file of ResNet18. Each seed
has its own split, the same for all, made by transferkit so that copies of an image stay together.
Every run is a whole process with an empty cache. Accuracy is that of the best epoch on the
validation images, for all alike. Peers run in an environment of their own, in OUT/peers. Every run
adds a row to OUT/quality.csv, which a second call with the same OUT continues; OUT/quality.md is
the table, and OUT/quality.png the plot.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from speed import HERE, ours, processor, python

PEERS = {
    "fastai fine_tune": ("fastai_learner", "fine_tune"),
    "timm's loop": ("timm_loop", "full"),
    "Hugging Face Trainer": ("hf_trainer", "full"),
}
"""Peer -> its script and mode."""


@dataclass(frozen=True)
class Contender:
    """A way to train.

    Attributes:
        name: Its name in the table and the plot.
        setting: What is varied: epochs or minutes.
        words: The command; it leaves a run of transferkit, or prints `accuracy X` for each epoch.
    """

    name: str
    setting: str
    words: tuple[str, ...]


def contenders(asked: argparse.Namespace, data: Path, seed: int) -> Iterator[Contender]:
    """Return all ways to train on one split."""
    out = asked.out
    words = ("finetune", data, "-b", "resnet18", "--weights", asked.weights, "--seed", seed)
    words = (*words, "-o", out / "run", "--overwrite", "-q")
    yield Contender("transferkit", "defaults", ours(*words))
    for minutes in asked.budgets:
        yield Contender(
            "transferkit --budget", f"{minutes:g} min", ours(*words, "--budget", minutes)
        )
    for name, (script, mode) in PEERS.items():
        for epochs in asked.epochs if name not in asked.without else ():
            command = (
                python(out), HERE / "peers" / f"{script}.py", data, "resnet18", epochs, mode,
                asked.weights, seed,
            )  # fmt: skip
            yield Contender(name, f"{epochs} epochs", tuple(map(str, command)))


def split(asked: argparse.Namespace, seed: int) -> Path:
    """Link the images of a seed's split into train/ and val/ folders, and return their folder."""
    data = asked.out / f"split{seed}"
    if not data.exists():
        run = asked.out / "run"
        options = ("--weights", asked.weights, "-b", "resnet18", "--epochs", 1, "--no-report")
        words = (asked.photos, "-o", run, "--overwrite", "--seed", seed, *options)
        subprocess.run(ours("finetune", "-q", *words), check=True)
        partial = data.with_name("partial")  # renamed when whole
        shutil.rmtree(partial, ignore_errors=True)
        with (run / "split.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                name = row["path"].replace("/", "-")  # DATA may have folders above its classes
                link = partial / row["split"] / row["label"] / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to((asked.photos / row["path"]).resolve())
        partial.rename(data)
    return data


def measure(contender: Contender, out: Path) -> tuple[float, float]:
    """Run a command with an empty cache; return its wall time and its accuracy."""
    cache = out / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    environment = os.environ | {"TRANSFERKIT_CACHE": str(cache)}
    started = time.perf_counter()
    ran = subprocess.run(contender.words, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    with (out / "log.txt").open("a") as log:
        print("$", *contender.words, ran.stdout, ran.stderr, sep="\n", file=log)
    if ran.returncode:
        raise SystemExit(f"failed, see {out / 'log.txt'}: {contender.words}")
    if contender.name.startswith("transferkit"):
        metrics = json.loads((out / "run" / "metrics.json").read_text())
        return seconds, metrics["val"]["accuracy"]
    lines = ran.stdout.splitlines()
    return seconds, max(float(line.split()[1]) for line in lines if line.startswith("accuracy "))


def grouped(rows: list[dict[str, str]]) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Return the rows by contender and setting."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["name"], row["setting"]), []).append(row)
    return groups


def table(rows: list[dict[str, str]]) -> str:
    """Return mean accuracies and median seconds as Markdown."""
    lines = ["| Who | Setting | Seconds | Accuracy | By seed |", "|---|---|---|---|---|"]
    for (name, setting), runs in grouped(rows).items():
        found = [float(run["accuracy"]) for run in runs]
        seconds = median(float(run["seconds"]) for run in runs)
        each = ", ".join(f"{accuracy:.3f}" for accuracy in found)
        lines.append(f"| {name} | {setting} | {seconds:.0f} | {mean(found):.3f} | {each} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, str]], title: str, path: Path) -> None:
    """Draw accuracy against seconds, one line per contender."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    points: dict[str, list[tuple[float, float]]] = {}
    for (name, _), runs in grouped(rows).items():
        point = (
            median(float(run["seconds"]) for run in runs),
            mean(float(run["accuracy"]) for run in runs),
        )
        points.setdefault(name, []).append(point)
    for name, found in points.items():
        axes.plot(*zip(*sorted(found), strict=True), marker="o", label=name)
    axes.set(xlabel="seconds of the whole process", ylabel="validation accuracy", title=title)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train in all ways, and write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--budgets", nargs="*", type=float, default=[0.5, 1, 3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--without", nargs="*", default=[], help="peers to leave out")
    asked = parser.parse_args()
    asked.photos, asked.weights = asked.photos.resolve(), asked.weights.resolve()
    asked.out = asked.out.resolve()
    asked.out.mkdir(parents=True, exist_ok=True)
    results = asked.out / "quality.csv"
    rows: list[dict[str, str]] = []
    if results.exists():
        with results.open(newline="") as file:
            rows = list(csv.DictReader(file))
    done = {(row["name"], row["setting"], row["seed"]) for row in rows}
    for seed in asked.seeds:
        for contender in contenders(asked, split(asked, seed), seed):
            if (contender.name, contender.setting, str(seed)) in done:
                continue
            seconds, accuracy = measure(contender, asked.out)
            row = {
                "name": contender.name, "setting": contender.setting, "seed": str(seed),
                "seconds": f"{seconds:.1f}", "accuracy": f"{accuracy:.4f}",
            }  # fmt: skip
            with results.open("a", newline="") as file:
                writer = csv.DictWriter(file, row)
                if not rows:
                    writer.writeheader()
                writer.writerow(row)
            rows.append(row)
            print(row, flush=True)
    text = f"{processor(asked.out)}\n\n{table(rows)}"
    (asked.out / "quality.md").write_text(text)
    draw(rows, f"ResNet18 on {asked.photos.name}", asked.out / "quality.png")
    print(text)


if __name__ == "__main__":
    main()
