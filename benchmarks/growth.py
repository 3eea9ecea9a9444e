"""Measure how time and memory of the steps before training grow with the number of images.

    python benchmarks/growth.py FOLDER [--counts 1000 10000 100000]

Makes small images in FOLDER, as many as the largest count, unless they are there already. Each
count is measured in a process of its own with an empty cache. Prints a table: seconds, microseconds
per image and MB at the peak of each step, and the exponent with which the seconds grow from one
count to the next (1 is in proportion; n log n is below 1.1 at these sizes).
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

CLASSES = 50
SIDE, CELLS = 64, 8
STEPS = ("scan", "check", "check again", "copies", "split", "digest", "split.csv")


def make_images(folder: Path, count: int) -> None:
    """Write images of random coloured patches, no two alike, into one folder per class."""
    import numpy as np
    from PIL import Image

    for number in range(count):
        path = folder / f"class{number % CLASSES:02}" / f"{number:07}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = np.random.default_rng(number).integers(0, 256, (CELLS, CELLS, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=80)


def link_images(source: Path, target: Path, count: int) -> None:
    """Link the first `count` images of a folder into another one."""
    for number in range(count):
        name = Path(f"class{number % CLASSES:02}") / f"{number:07}.jpg"
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(source / name, target / name)


def measure(folder: Path) -> dict[str, tuple[float, float]]:
    """Return step -> (seconds, peak MB of the process so far)."""
    from transferkit.data.check import check_images
    from transferkit.data.copies import number_copies
    from transferkit.data.dataset import Dataset
    from transferkit.data.scan import scan
    from transferkit.data.split import assign_splits
    from transferkit.data.split_file import write_split
    from transferkit.devices import default_workers
    from transferkit.reporter import SILENT

    found: dict[str, tuple[float, float]] = {}
    begin = {"workers": default_workers(), "reporter": SILENT, "remember": True}

    def timed(name, step):
        started = time.perf_counter()
        result = step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found[name] = time.perf_counter() - started, peak
        return result

    index = timed("scan", lambda: scan(folder))
    time.sleep(2.1)  # files that have just been written are not remembered by their state
    checked = timed("check", lambda: check_images(index, **begin))
    timed("check again", lambda: check_images(index, **begin))
    copies = timed("copies", lambda: number_copies(checked.sha256, checked.signatures))
    splits = timed(
        "split", lambda: assign_splits(index, checked.sha256, copies, val_fraction=0.2, seed=0)
    )
    dataset = Dataset(checked.index, checked.sha256, copies, splits, ())
    timed("digest", dataset.digest)
    with TemporaryDirectory() as run:
        timed("split.csv", lambda: write_split(Path(run), dataset))
    return found


def main() -> None:
    """Print how the steps grow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.folder)))
        return
    make_images(given.folder / "all", max(given.counts))
    results = {}
    for count in given.counts:
        with TemporaryDirectory(dir=given.folder) as work:
            link_images(given.folder / "all", Path(work) / "images", count)
            ran = subprocess.run(
                [sys.executable, __file__, f"{work}/images", "--measure"],
                env={**os.environ, "TRANSFERKIT_CACHE": f"{work}/cache"},
                stdout=subprocess.PIPE,
                check=True,
            )
        results[count] = json.loads(ran.stdout)
    print("| Step | " + " | ".join(f"{n:,} images" for n in given.counts) + " | Exponents |")
    print("|---" * (len(given.counts) + 2) + "|")
    for step in STEPS:
        cells = [
            f"{results[n][step][0]:.2f} s, {1e6 * results[n][step][0] / n:.0f} us, "
            f"{results[n][step][1]:.0f} MB"
            for n in given.counts
        ]
        pairs = list(zip(given.counts, given.counts[1:], strict=False))
        exponents = [
            math.log(results[b][step][0] / results[a][step][0]) / math.log(b / a) for a, b in pairs
        ]
        print(f"| {step} | {' | '.join(cells)} | {', '.join(f'{e:.2f}' for e in exponents)} |")


if __name__ == "__main__":
    main()
