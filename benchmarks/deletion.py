"""Check that heat maps mark the evidence: hide the hottest places first, and see what is lost.

    python benchmarks/deletion.py RUN DATA OUT --method gradcam --method saliency

The deletion curve of Petsiuk, Das and Saenko, RISE, BMVC 2018: squares of 16 x 16 pixels of the
network's input are replaced by the mean colour, the hottest first. The area under the probability
of the predicted class is lower for a better order. The baseline is three random orders per image.
The images are drawn from the run's validation part. Writes OUT/deletion.md. Intervals come from
resampling the images.
"""

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from transferkit.attribution import Method
from transferkit.attribution.explainer import Explainer
from transferkit.bundle import ModelBundle
from transferkit.data.images import read_image
from transferkit.data.normalization import normalize
from transferkit.data.transforms import eval_transform

SQUARE = 16
STEPS = 14
RANDOM_ORDERS = 3


def main(
    run: Path,
    data: Path,
    out: Path,
    method: Annotated[list[Method], typer.Option()] = [Method.GRAD_CAM],  # noqa: B006
    images: int = 100,
) -> None:
    """Measure the area of each method on the same images, and of random orders."""
    bundle = ModelBundle.load(run)
    explainers = {kind: Explainer(bundle, kind) for kind in method}
    random = np.random.default_rng(0)
    areas: dict[str, list[float]] = {"random": [], **{kind: [] for kind in method}}
    for path in sampled(run / "split.csv", images, random):
        image = seen(bundle, data / path)
        target = explainers[method[0]].probabilities(image).argmax(dim=1)
        count = (image.shape[2] // SQUARE) * (image.shape[3] // SQUARE)
        orders = [random.permutation(count) for _ in range(RANDOM_ORDERS)]
        by_chance = [area(explainers[method[0]], image, target, order) for order in orders]
        areas["random"].append(float(np.mean(by_chance)))
        for kind, explainer in explainers.items():
            order = hottest_first(explainer.maps(image, target)[0])
            areas[kind].append(area(explainer, image, target, order))
    report({name: np.array(values) for name, values in areas.items()}, out)


def sampled(split: Path, count: int, random: np.random.Generator) -> list[str]:
    """Return the paths of some validation images."""
    with split.open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file) if row["split"] == "val"]
    return [paths[i] for i in sorted(random.permutation(len(paths))[:count])]


def seen(bundle: ModelBundle, path: Path) -> Tensor:
    """Return an image as the network sees it, (1, 3, H, W)."""
    preprocessing = bundle.network.preprocessing
    transform = eval_transform(preprocessing)
    pixels = transform(read_image(path, transform.needed), np.random.default_rng(0))
    return normalize(torch.tensor(pixels)[None], preprocessing)


def hottest_first(heat: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the squares, numbered row by row, in the order of their mean heat."""
    high, wide = heat.shape[0] // SQUARE, heat.shape[1] // SQUARE
    squares = heat[: high * SQUARE, : wide * SQUARE].reshape(high, SQUARE, wide, SQUARE)
    return np.argsort(-squares.mean(axis=(1, 3)).ravel(), kind="stable")


def area(explainer: Explainer, image: Tensor, target: Tensor, order: NDArray[np.int64]) -> float:
    """Return the area under a class's probability while squares are hidden in order, 0 to 1."""
    views = image.repeat(STEPS + 1, 1, 1, 1)
    wide = image.shape[3] // SQUARE
    for step in range(1, STEPS + 1):
        for square in order[: round(step * len(order) / STEPS)]:
            top, left = SQUARE * (square // wide), SQUARE * (square % wide)
            views[step, :, top : top + SQUARE, left : left + SQUARE] = 0  # the mean, normalised
    values = explainer.probabilities(views)[:, int(target)].double().numpy()
    return float(np.trapezoid(values, dx=1 / STEPS))


def report(areas: dict[str, NDArray[np.float64]], out: Path) -> None:
    """Print and write one row per method."""
    random, chance = np.random.default_rng(0), areas.pop("random")
    draws = random.integers(len(chance), size=(10_000, len(chance)))
    lines = ["| order | area | random less this | 95 % interval | lower than random |"]
    lines += ["|---|---|---|---|---|", f"| random | {chance.mean():.3f} | | | |"]
    for name, values in areas.items():
        gain = chance - values
        low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
        lines.append(
            f"| {name} | {values.mean():.3f} | {gain.mean():.3f} | {low:.3f} to {high:.3f} "
            f"| {(gain > 0).sum()} of {len(gain)} |"
        )
    print("\n".join(lines))
    out.mkdir(parents=True, exist_ok=True)
    (out / "deletion.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
