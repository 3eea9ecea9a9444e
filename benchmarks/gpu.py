"""Images per second of training and of passes on a GPU, beside a plain loop of timm.

    python benchmarks/gpu.py PHOTOS -b resnet50 --batch-size 256 -o gpu.md

PHOTOS is a folder with one subfolder per class. Both sides train the same network with the same
batch size, precision, optimizer and clipping, all layers and BatchNorm included, on random crops;
timm reads its batches through its PrefetchLoader. `from files` counts everything from decoding to
the last step; `computing alone` repeats a batch that is ready, so the difference is what reading
costs. The sides take turns, so that a shared machine slows both; the median of the rounds
is written. Weights are random, which does not affect the time. `--device cpu` tries the program on
a machine without a GPU.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from timm import create_model
from timm.data import create_dataset, create_loader
from torch import Tensor, nn
from torch.optim import AdamW

from transferkit.data.loader import iterate_batches
from transferkit.data.transforms import eval_transform
from transferkit.device_copies import batch_memory
from transferkit.devices import Device, Precision, autocast, create_scaler
from transferkit.forward_pass import create_pass, logits_of
from transferkit.models.freezing import freeze, train_mode
from transferkit.network_outputs import probabilities_in_parts
from transferkit.options.declaration import create_options
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.finetuning.create_setup import create_setup
from transferkit.recipes.finetuning.read_dataset import read_dataset
from transferkit.recipes.finetuning.run_in_progress import FinetuneRun
from transferkit.recipes.finetuning.train_network import prepare_training
from transferkit.reporter import SILENT
from transferkit.run.stopwatch import Stopwatch
from transferkit.training.schedule import Scheduler
from transferkit.training.step import training_step

STEPS = 30
"""Steps and passes of `computing alone`."""

TRAINING, STEPPING = "train, from files", "train, computing alone"
PREDICTING, PASSING = "predict, from files", "predict, computing alone"

Job = Callable[[], int]
"""Does the work once, and returns the number of images in it."""


def ours(options: FinetuneOptions) -> dict[str, Job]:
    """Return the jobs of transferkit."""
    dataset = read_dataset(options, SILENT)
    network, settings = prepare_training(options, dataset, SILENT)
    run = FinetuneRun(
        options, dataset, network, settings, None, SILENT, Stopwatch(), lambda row: False
    )
    setup, phase = create_setup(run, Scheduler.NONE), settings.last_phase
    freeze(setup.module, phase.parameters)
    data, compute, files = setup.data_of(phase), settings.compute, dataset.index.files
    epochs = iter(range(1, 10**6))
    batch = next(data.epoch(next(epochs)))
    (plain,) = iterate_batches(
        files[: compute.batch_size],
        eval_transform(network.preprocessing),
        batch_size=compute.batch_size,
        workers=compute.workers,
        allocate=batch_memory(compute.device),
    )
    forward = create_pass(logits_of(network), compute)

    def train(epoch: Iterator) -> int:
        train_mode(setup.module, setup.batch_norm)
        return sum(len(training_step(setup, data.trained, one)[1]) for one in epoch)

    return {
        TRAINING: lambda: train(data.epoch(next(epochs))),
        STEPPING: lambda: train(iter([batch] * STEPS)),
        PREDICTING: lambda: sum(
            len(p.rows) for p in probabilities_in_parts(network, compute)(files)
        ),
        PASSING: lambda: sum(len(forward.values(plain.pixels)) for _ in range(STEPS)),
    }


def timms(options: FinetuneOptions) -> dict[str, Job]:
    """Return the jobs of timm's loader and a plain loop."""
    device = torch.device(options.device)
    dataset = create_dataset("", str(options.data))
    model = create_model(options.backbone, num_classes=len(dataset.reader.class_to_idx))
    model.to(device, memory_format=torch.channels_last)
    common = {
        "input_size": (3, options.image_size, options.image_size),
        "batch_size": options.batch_size,
        "interpolation": "bicubic",
        "num_workers": options.workers,
        "pin_memory": device.type == "cuda",
        "device": device,
    }
    train_loader = create_loader(
        dataset, is_training=True, scale=(0.35, 1), color_jitter=0.2, **common
    )
    val_loader = create_loader(dataset, is_training=False, **common)
    optimizer = AdamW(model.parameters(), lr=1e-3, fused=True)
    trained = torch.compile(model, dynamic=False) if options.compile else model
    scaler = create_scaler(device, options.precision)
    criterion = nn.CrossEntropyLoss()
    ready = next(iter(train_loader))

    def step(images: Tensor, labels: Tensor) -> int:
        images = images.contiguous(memory_format=torch.channels_last)
        with autocast(device, options.precision):
            loss = criterion(trained(images), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return len(images)

    @torch.inference_mode()
    def forward(images: Tensor) -> int:
        images = images.contiguous(memory_format=torch.channels_last)
        with autocast(device, options.precision):
            return len(model(images).float().softmax(1).cpu())

    def train(batches: Iterator) -> int:
        model.train()
        return sum(step(*batch) for batch in batches)

    def predict(batches: Iterator) -> int:
        model.eval()
        return sum(forward(images) for images, _ in batches)

    return {
        TRAINING: lambda: train(iter(train_loader)),
        STEPPING: lambda: train(iter([ready] * STEPS)),
        PREDICTING: lambda: predict(iter(val_loader)),
        PASSING: lambda: predict(iter([ready] * STEPS)),
    }


def rate(job: Job, device: torch.device) -> float:
    """Return images per second."""
    started = time.perf_counter()
    images = job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


def machine(device: torch.device, workers: int) -> str:
    """Return the names of the device and of the libraries."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    cpu = torch.cpu.get_capabilities()["cpu_name"]
    return f"{name}, {workers} threads or processes that decode ({cpu}), torch {torch.__version__}"


def main(
    photos: Path,
    backbone: Annotated[str, typer.Option("-b")] = "resnet50",
    precision: Annotated[Precision, typer.Option()] = Precision.BF16,
    device: Annotated[Device, typer.Option()] = Device.CUDA,
    batch_size: int = 256,
    image_size: int = 224,
    workers: int = 8,
    rounds: int = 5,
    compile: Annotated[bool, typer.Option("--compile")] = False,
    output: Annotated[Path | None, typer.Option("-o")] = None,
) -> None:
    """Time both sides in turn and print a table."""
    options = create_options(
        FinetuneOptions,
        data=photos,
        backbone=backbone,
        weights="none",
        strategy="full",
        freeze_epochs=0,
        bn="train",
        cache="off",
        engine="torch",
        batch_size=batch_size,
        image_size=image_size,
        workers=workers,
        precision=precision,
        device=device,
        compile=compile,
    )
    sides = {"transferkit": ours(options), "timm": timms(options)}
    torch_device = torch.device(device)
    lines = [
        f"{machine(torch_device, workers)}; {backbone} at {image_size} pixels, {precision}, "
        f"batches of {batch_size}{', steps compiled' * compile}, images per second:\n",
        "| job | transferkit | timm | ratio |\n|---|---|---|---|",
    ]
    for job in (TRAINING, STEPPING, PREDICTING, PASSING):
        # The first round warms up.
        rates = [
            [rate(jobs[job], torch_device) for jobs in sides.values()] for _ in range(rounds + 1)
        ]
        us, them = (median(one) for one in zip(*rates[1:], strict=True))
        lines.append(f"| {job} | {us:.0f} | {them:.0f} | {us / them:.2f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if output:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
