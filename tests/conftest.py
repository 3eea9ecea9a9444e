"""Fixtures: image folders, a finished run, and the command line called in this process."""

import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

# Set before the imports, because torch reads these settings when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    # There are as many workers as cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if sys.dont_write_bytecode:
    # Without stored bytecode, every process compiles torch again, which takes tens of seconds.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": sys.pycache_prefix}

import pytest
from command_line import Ran, call_main
from image_files import make_classes
from rich.console import Console
from s3_server import new_bucket, running_gate

from transferkit import places

WRITE_REPORT = "transferkit.recipes.finetuning.outputs.write_report"
ESTIMATED = "transferkit.recipes.finetuning.train_network.estimate_seconds"
SECONDS = (("this run", 42.0), ("head", 42.0), ("last:1", 100.0), ("full", 9000.0))


@pytest.fixture(autouse=True, scope="session")
def session_defaults(tmp_path_factory):
    """Use a cache of this session's own, fp32 on any CPU, and no fsync; keep runs short.

    Report pages and time estimates take longer than most of these runs, so only tests that use
    `pages` and `estimates` get them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRANSFERKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("transferkit.devices.has_fast_bf16", lambda device: False)
        patch.setattr("transferkit.exported_model.has_fast_bf16", lambda: False)
        patch.setattr(WRITE_REPORT, lambda sources, output, reporter: ())
        patch.setattr(ESTIMATED, lambda run: SECONDS)
        patch.setattr("os.fsync", lambda file: None)
        yield


@pytest.fixture(scope="module")
def pages():
    """Let runs write their report pages, as they do for users."""
    from transferkit.report.run_contents import write_report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WRITE_REPORT, write_report)
        yield


@pytest.fixture
def estimates(monkeypatch):
    """Let runs estimate their time, as they do for users."""
    from transferkit.recipes.finetuning.estimate import estimate_seconds

    monkeypatch.setattr(ESTIMATED, estimate_seconds)


@pytest.fixture
def fewer_steps(monkeypatch):
    """Shorten range tests to 30 steps, between which the learning rate grows faster."""
    for module in ("training.lr_range_test", "recipes.finetuning.train_network"):
        monkeypatch.setattr(f"transferkit.{module}.STEPS", 30)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """Three classes of eight small images. Read only."""
    return make_classes(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def few_images(tmp_path_factory) -> Path:
    """Three classes of four small images, for runs whose accuracy does not matter. Read only."""
    return make_classes(tmp_path_factory.mktemp("few") / "colours", 4)


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


@pytest.fixture(scope="session")
def exported_run(run_folder, tmp_path_factory) -> Path:
    """The run of `run_folder` with its exported model. Read only."""
    import transferkit

    run = shutil.copytree(run_folder, tmp_path_factory.mktemp("exported") / "colours")
    transferkit.export(run)
    return run


@pytest.fixture
def cli(capsys, monkeypatch) -> Callable[..., Ran]:
    """Call the command line as the console script does, into a pipe of no known width."""

    def call(*words: object) -> Ran:
        return call_main(words, capsys, monkeypatch)

    return call


@pytest.fixture
def terminal(monkeypatch) -> Callable[[int], None]:
    """Let commands print to a terminal of some width, in characters."""

    def terminal(width: int) -> None:
        console = {"force_terminal": True, "color_system": None, "highlight": False}
        monkeypatch.setattr(
            "transferkit.cli.console._console", lambda _: Console(width=width, **console)
        )

    return terminal


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights, if the machine has one."""
    folder = os.environ.get("TRANSFERKIT_SHARED", "")
    if not folder or not Path(folder, "SOURCES.md").is_file():
        pytest.skip("TRANSFERKIT_SHARED names no folder of real images and weights")
    return Path(folder)


@pytest.fixture
def no_network(monkeypatch):
    """Make any attempt to connect an error."""

    def refuse(*_):
        raise AssertionError("a connection was tried")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, if the machine has one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("there is no chromium to open pages with")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox does not work for root, the usual user in containers.
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def s3_gate():
    """A server of S3 for the session: the client keeps the address that it was first given."""
    with running_gate() as gate:
        yield gate


@pytest.fixture
def s3(s3_gate, monkeypatch):
    """An empty bucket; the client gives up an answer after a second, and waits no time between."""
    monkeypatch.setattr("transferkit.places._WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setitem(places._S3, "read_timeout", 1)
    yield new_bucket(s3_gate)
    s3_gate.faults, s3_gate.always = [], ""
