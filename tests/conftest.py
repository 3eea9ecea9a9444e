"""Fixtures: tiny pictures, a trained run, and the command line called in this process."""

import os
import shutil

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: there are as many of us as cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from transferkit.cli import main
from transferkit.recipes.finetuning.run import FinetuneRun

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}
TINY = ("-b", "test_resnet", "--weights", "none", "--image-size", "32")
"""Command line words for a backbone of 0.5 million parameters that needs no download."""


DRAWS_REPORT = FinetuneRun.draws_report


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def save_picture(path: Path, colour: tuple[int, int, int], *, seed: int, size=(40, 36)) -> None:
    """Write a noisy picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-30, 30, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def make_classes(root: Path, count: int = 8) -> Path:
    """Write three classes of `count` pictures that their colour tells apart."""
    for name, colour in COLOURS.items():
        for i in range(count):
            save_picture(root / name / f"{i}.png", colour, seed=10 * len(name) + i)
    return root


@pytest.fixture(autouse=True, scope="session")
def everywhere_the_same(tmp_path_factory):
    """A cache of the session's own, fp32 whatever instructions this CPU has, and no pages.

    A page takes longer than most of these runs; tests of pages ask for `pages`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRANSFERKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("transferkit.devices.has_fast_bf16", lambda device: False)
        patch.setattr(FinetuneRun, "draws_report", False)
        yield


@pytest.fixture(scope="module")
def pages():
    """Runs draw their pages, as they do for everyone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinetuneRun, "draws_report", DRAWS_REPORT)
        yield


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """Three classes of eight small pictures. Read only."""
    return make_classes(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def run_folder(image_folder, tmp_path_factory) -> Path:
    """A finished run on `image_folder`. Read only."""
    import transferkit

    run = tmp_path_factory.mktemp("runs") / "colours"
    transferkit.finetune(
        image_folder,
        run,
        backbone="test_resnet",
        weights="none",
        strategy="full",
        image_size=32,
        epochs=4,
        learning_rate=3e-3,
        batch_size=6,
    )
    return run


@pytest.fixture
def cli(capsys, monkeypatch) -> Callable[..., Ran]:
    """Call the command line as the console script does, into a pipe of no known width."""

    def call(*words: object) -> Ran:
        monkeypatch.setattr("sys.argv", ["transferkit", *map(str, words)])
        # Python's readline, where something imports it, tells the environment 80.
        monkeypatch.delenv("COLUMNS", raising=False)
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures and weights, where the machine has one."""
    folder = os.environ.get("TRANSFERKIT_SHARED", "")
    if not folder or not Path(folder, "SOURCES.md").is_file():
        pytest.skip("TRANSFERKIT_SHARED names no folder of real pictures and weights")
    return Path(folder)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, where the machine has one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("there is no chromium to open pages with")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # Root, as in containers, has no sandbox.
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
