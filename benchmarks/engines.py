"""Compare the engines with torch: images per second, and how far their features differ.

    python benchmarks/engines.py resnet18 convnext_tiny --layer pooled --layer stage2 -o table.md

Features are computed of random pixels by networks with random weights, in blocks of 32 images, by
torch, OpenVINO and ONNX Runtime in turn; the median of the rounds is written as a table. A
difference is the largest one of a row, relative to the length of torch's row in fp32. Without
names, the architectures of tests/test_contract.py are compared.
"""

import re
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer

from transferkit.compute import ComputeSettings
from transferkit.devices import Precision, has_fast_bf16, keep_freed_memory
from transferkit.engines import Engine
from transferkit.errors import TransferKitError
from transferkit.forward_pass import create_pass, features_of
from transferkit.models import NO_WEIGHTS
from transferkit.models.create_network import create_network
from transferkit.models.feature_extractor import POOLED, FeatureExtractor

CPU = torch.device("cpu")
BATCH, COMPARED = 32, 6
CONTRACT = Path(__file__).parents[1] / "tests" / "test_contract.py"


def contract_names() -> list[str]:
    """Return the architectures that the tests freeze and train."""
    text = CONTRACT.read_text("utf-8")
    table = text[text.index("ARCHITECTURES = {") : text.index("}", text.index("ARCHITECTURES"))]
    return re.findall(r'"([\w.:]+)": \("?', table)


def rate(run: object, pixels: np.ndarray, rounds: int) -> float:
    """Return images per second."""
    assert callable(run)
    spent = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        run(pixels)
        spent.append(time.perf_counter() - started)
    return len(pixels) / median(spent[1:])


def distance(values: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of a row, relative to the expected one."""
    gaps = np.linalg.norm((values - expected).reshape(len(values), -1), axis=1)
    return float((gaps / np.linalg.norm(expected.reshape(len(values), -1), axis=1)).max())


def measured(name: str, layer: str, rounds: int) -> list[str]:
    """Return the row of a network and a layer: ratios to torch in the same precision."""
    network = create_network(name, weights=NO_WEIGHTS, num_classes=0)
    network.module.requires_grad_(False)
    network.module.to(memory_format=torch.channels_last)
    features = features_of(FeatureExtractor(network, (layer,)))
    size = network.preprocessing.input_size[1:]
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, *size, 3), dtype=np.uint8)
    cells = [name, layer]
    exact = None
    for precision in (Precision.FP32, Precision.BF16)[: 1 + has_fast_bf16(CPU)]:
        own = create_pass(features, ComputeSettings(CPU, precision, BATCH, 1))
        exact = own.values(pixels[:COMPARED]) if exact is None else exact
        speed = rate(own.values, pixels, rounds)
        cells.append(f"{speed:.0f}")
        engines = [Engine.OPENVINO, Engine.ONNXRUNTIME][: 1 + (precision is Precision.FP32)]
        for engine in engines:
            settings = ComputeSettings(CPU, precision, BATCH, 1, engine=engine)
            try:
                other = create_pass(features, settings)
            except TransferKitError as error:
                cells += [str(error)[:60], ""]
                continue
            gap = distance(other.values(pixels[:COMPARED]), exact)
            cells += [f"{rate(other.values, pixels, rounds) / speed:.2f}", f"{gap:.0e}"]
    return cells


def main(
    names: Annotated[list[str] | None, typer.Argument()] = None,
    layer: Annotated[list[str] | None, typer.Option()] = None,
    rounds: int = 3,
    output: Annotated[Path | None, typer.Option("-o")] = None,
) -> None:
    """Measure all networks and print a table."""
    keep_freed_memory()
    torch.manual_seed(0)
    heads = ["network", "layer", "torch /s", "OpenVINO", "differs", "ONNX Runtime", "differs"]
    if has_fast_bf16(CPU):
        heads += ["torch bf16 /s", "OpenVINO bf16", "differs"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    print("\n".join(lines), flush=True)
    for name in names or contract_names():
        for one in layer or [POOLED]:
            lines.append(f"| {' | '.join(measured(name, one, rounds))} |")
            print(lines[-1], flush=True)
    if output:
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
