"""Compare transferkit with its peers: the same job as whole processes, in turn; medians and ratios.

    python benchmarks/speed.py PHOTOS OUT --jobs head full extract predict growth --rounds 3

PHOTOS is a folder with one subfolder per class. Peers run in an environment of their own, created
with uv in OUT/peers. Every run adds a row to OUT/runs.csv; the table is written to OUT/table.md.
Weights are random on both sides, which does not affect the time.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
PEERS = ("torch", "torchvision", "timm", "fastai", "transformers[torch]", "pillow")
OURS = ("finetune", "-q", "--weights", "none", "--patience", "0", "--no-report")


GROWTH = (500, 5_000, 50_000)
"""Numbers of images of the job growth."""

EXTRACTED = {
    "extract": "resnet18",
    "extract-lite0": "tf_efficientnet_lite0",
    "extract-convnext": "convnext_tiny",
    "extract-vgg": "vgg19",
}
"""Jobs that compute the features of 3,000 images, and their networks."""


AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""Variables with which torch and OpenVINO use no newer instructions; ONNX Runtime has none."""


@dataclass(frozen=True)
class Contender:
    """A command that does a job.

    Attributes:
        job: The job; contenders of one job are compared.
        name: Name of the library.
        words: The command.
    """

    job: str
    name: str
    words: tuple[str, ...]


def ours(*words: object) -> tuple[str, ...]:
    """Return a transferkit command in this environment."""
    return (str(Path(sys.executable).with_name("transferkit")), *map(str, words))


def training(
    out: Path, job: str, architecture: str, epochs: int, mode: str, peers: tuple[str, ...]
) -> Iterator[Contender]:
    """Return transferkit and its peers, training on the same 400 + 100 images."""
    data, run = out / "data", out / "run"
    strategy = ("--strategy", "full") if mode == "full" else ()
    words = (*OURS, data, "-b", architecture, "--epochs", epochs, "-o", run, "--overwrite")
    yield Contender(job, "transferkit", ours(*words, *strategy))
    if mode == "head":
        yield Contender(job, "transferkit, 4 views", ours(*words, "--views", 4))
    for peer in peers:
        script = str(HERE / "peers" / f"{peer}.py")
        yield Contender(
            job, peer, (str(python(out)), script, str(data), architecture, str(epochs), mode)
        )


def contenders(job: str, out: Path) -> Iterator[Contender]:
    """Return all contenders of a job, transferkit first."""
    match job:
        case "head":
            for epochs in (1, 5):
                peers = ("tutorial", "fastai_learner")
                yield from training(out, f"head, {epochs}", "resnet18", epochs, "head", peers)
            yield from training(out, "head, 20", "resnet18", 20, "head", ())
        case "full" | "full-convnext":
            architecture = "resnet18" if job == "full" else "convnext_tiny"
            peers = ("timm_loop", "tutorial", "hf_trainer", "fastai_learner")
            yield from training(out, f"full, 3, {architecture}", architecture, 3, "full", peers)
        case "last":
            for cache in ("disk", "off"):
                yield Contender(
                    "last:1, 5", f"cache {cache}",
                    ours(*OURS, out / "data", "--unfreeze", "last:1", "--views", 1, "--epochs",
                         5, "--cache", cache, "-o", out / "run", "--overwrite"),
                )  # fmt: skip
        case _ if job in EXTRACTED:
            architecture = EXTRACTED[job]
            photos, to = out / "3000", out / "features.npz"
            name = f"features of 3000, {architecture}"
            words = ("-b", architecture, "--weights", "none", "-o", to, "--overwrite", "-q")
            yield Contender(name, "transferkit", ours("extract-features", photos, *words))
            script = str(HERE / "peers" / "plain_features.py")
            command = (str(python(out)), script, str(photos), architecture, str(to))
            yield Contender(name, "plain loop", command)
        case "predict":
            picture = next((out / "data" / "val").rglob("*.jpg"))
            words = ours("predict", picture, "-m", out / "run")
            words_of_run = (*OURS, out / "data", "-b", "resnet18", "--epochs", 1, "-o", out / "run")
            subprocess.run(ours(*words_of_run, "--overwrite"), check=True)
            subprocess.run(ours("export", out / "run", "--overwrite"), check=True)
            yield Contender("predict", "transferkit, exported", words)
            yield Contender("predict", "transferkit, in torch", (*words, "--engine", "torch"))
            yield Contender("predict", "import timm", (str(python(out)), "-c", "import timm"))
        case "growth":
            for count in GROWTH:
                words = ("-b", "resnet18", "-o", out / "run", "--overwrite")
                command = ours(*OURS, out / str(count), *words, "--epochs", 5)
                yield Contender(f"growth, {count}", "transferkit", command)
        case _:
            raise SystemExit(f"no such job: {job}")


def python(out: Path) -> Path:
    """Return the Python of the peers' environment, which is created on first use."""
    here = out / "peers"
    if not here.exists():
        subprocess.run(["uv", "venv", "-q", here], check=True)
        subprocess.run(
            ["uv", "pip", "install", "-q", "--python", here / "bin/python", *PEERS], check=True
        )
    return here / "bin/python"


def link_images(photos: Path, out: Path, counts: Iterable[int]) -> None:
    """Link 400 + 100 images into train/ and val/, and more, under new names, into other folders."""
    files = sorted(photos.glob("*/*.jpg"))
    spread = files[:: max(1, len(files) // 500)][:500]
    for i, file in enumerate(spread):
        _link(file, out / "data" / ("val" if i % 5 == 0 else "train") / file.parent.name, i)
    for count in counts:
        for i in range(count if not (out / str(count)).exists() else 0):
            file = files[i * len(files) // count if count < len(files) else i % len(files)]
            _link(file, out / str(count) / file.parent.name, i, distinct=i >= len(files))


def _link(file: Path, folder: Path, number: int, distinct: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    to = folder / f"{number:06}.jpg"
    if distinct:
        # Other bytes after the end of the image: the same pixels, but not in any cache.
        to.write_bytes(file.read_bytes() + str(number).encode())
    elif not to.exists():
        to.symlink_to(file.resolve())


def measure(contender: Contender, out: Path, *, avx2: bool) -> dict[str, object]:
    """Run a command with an empty cache; return its wall time in seconds and its peak memory."""
    words = contender.words
    if avx2 and words[0] == ours()[0]:
        words += ("--precision", "fp32")  # transferkit asks the processor, which has bf16
    cache = out / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    environment = os.environ | {"TRANSFERKIT_CACHE": str(cache)} | (AVX2 if avx2 else {})
    with (out / "log.txt").open("a") as log:
        print("$", *words, file=log, flush=True)
        started = time.perf_counter()
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"failed, see {out / 'log.txt'}: {words}")
    scale = 1024 if sys.platform == "linux" else 1
    return {
        "job": contender.job,
        "name": contender.name,
        "seconds": round(seconds, 2),
        "peak_mb": used.ru_maxrss * scale // 10**6,
    }


def processor(out: Path) -> str:
    """Return the number of cores, and the instructions that torch finds on them."""
    asks = (
        "import torch; has = torch.cpu.get_capabilities(); names = ('avx2', 'avx512_f', "
        "'avx512_bf16', 'amx_bf16'); print(has['cpu_name'], *(n for n in names if has[n]))"
    )
    found = subprocess.run([python(out), "-c", asks], check=True, capture_output=True, text=True)
    return f"{os.cpu_count()} cores, {found.stdout.strip()}"


def table(rows: list[dict[str, str]]) -> str:
    """Return medians and ratios as Markdown."""
    lines = [
        "| job | who | median s | range | runs | ratio | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for job in dict.fromkeys(row["job"] for row in rows):
        of_job = [row for row in rows if row["job"] == job]
        first: float | None = None
        names = dict.fromkeys(row["name"] for row in of_job)
        for name in sorted(names, key=lambda name: not name.startswith("transferkit")):
            runs = [row for row in of_job if row["name"] == name]
            seconds = [float(row["seconds"]) for row in runs]
            first = first or median(seconds)
            peak = max(int(row["peak_mb"]) for row in runs)
            lines.append(
                f"| {job} | {name} | {median(seconds):.1f} | {min(seconds):.1f} to "
                f"{max(seconds):.1f} | {len(seconds)} | {median(seconds) / first:.2f} | {peak} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the jobs and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", nargs="+", default=["head", "full", "extract", "predict"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], help="peers to leave out")
    parser.add_argument("--avx2", action="store_true", help="use no newer instructions")
    asked = parser.parse_args()
    out = asked.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    counts = [3000] if EXTRACTED.keys() & set(asked.jobs) else []
    link_images(asked.photos, out, [*counts, *(GROWTH if "growth" in asked.jobs else ())])
    runs = out / "runs.csv"
    for job in asked.jobs:
        for _ in range(asked.rounds):
            for contender in contenders(job, out):
                if contender.name in asked.without:
                    continue
                row = measure(contender, out, avx2=asked.avx2)
                new = not runs.exists()
                with runs.open("a", newline="") as file:
                    writer = csv.DictWriter(file, row)
                    if new:
                        writer.writeheader()
                    writer.writerow(row)
                print(row, flush=True)
    with runs.open(newline="") as file:
        text = table(list(csv.DictReader(file)))
    (out / "table.md").write_text(f"{processor(out)}\n\n{text}")
    print(text)


if __name__ == "__main__":
    main()
