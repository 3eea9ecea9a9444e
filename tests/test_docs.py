"""Every command and code block of README and docs/ runs, and the built reference is complete.

Each page runs from top to bottom in a folder of its own, on a part of the sample data, which also
stands in for photographs; the model hub is on loopback, and its weights are random. Console blocks
go through the command line in this process, Python blocks share one namespace per page. Outputs are
not compared, because figures depend on the processor.
"""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
import timm
from hub_server import point_client_at, serve_hub
from interrupting import stop_after
from markdown_it import MarkdownIt
from safetensors.torch import save_file

import transferkit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if "runs" not in page.parts),  # of notebooks
]

SHOWN_ONLY = {"text", "json", "toml"}
"""Languages of blocks that show output and files."""

CAPTIONED = {"needs-hub", "needs-photographs", "needs-interruption"}
"""Classes of blocks that need more than a checkout; the site's style says what."""

INTERRUPT = "^C"
"""Line of a console block that interrupts the command before it."""

IMAGES_PER_CLASS = 6

CHEAPER = {
    "finetune": {"--image-size": "32", "--batch-size": "8", "--epochs": "2"},
    "compare": {"--image-size": "32", "--epochs": "2", "--seeds": "1"},
    "extract-features": {"--image-size": "32"},
    "serve": {"--port": "0"},
}
"""Options that a page's commands get instead of or beside theirs; classifiers take no epochs."""

WITHIN_REACH = {"--accuracy": "0.1", "--sets": "0.5", "--budget": "1000", "--processes": "1"}
"""Values that suffice for the few validation images of a page's run, for a slow machine, and in the
process of the tests."""

CHOSEN_BY_BUDGET = {"--image-size", "--epochs"}

SHARED_RUN = "runs/cats"
"""The run that pages use without making it."""

WEIGHTS = "resnet18.safetensors"
"""The weights that pages use without making them; the stand-in hub has the same."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its class if it has one, and its lines."""

    language: str
    mark: str
    lines: tuple[str, ...]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page; skip those of other directives."""
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        if token.type != "fence":
            continue
        lines = token.content.splitlines()
        language = token.info.strip()
        marks = [line.removeprefix(":class: ") for line in lines if line.startswith(":class: ")]
        if directive := re.fullmatch(r"\{code-block\} (\w+)", language):
            language = directive[1]
        elif language.startswith("{"):
            continue
        yield Block(language, *(marks or [""]), tuple(ln for ln in lines if ln[:2] != ":c"))


def cheaper(words: list[str]) -> list[str]:
    """Return a command's words with the options of `CHEAPER` applied."""
    words = list(words)
    for flag, value in CHEAPER.get(words[0], {}).items():
        if flag == "--epochs" and "features" in words:
            continue
        if flag in CHOSEN_BY_BUDGET and "--budget" in words and words[0] == "finetune":
            continue
        if flag in words:
            words[words.index(flag) + 1] = value
        else:
            words += [flag, value]
    for flag, value in WITHIN_REACH.items():
        if flag in words:
            words[words.index(flag) + 1] = value
    return words


@pytest.fixture(scope="session")
def example_folder(tmp_path_factory) -> Path:
    """Everything that pages use without making it. Read only."""
    folder = tmp_path_factory.mktemp("docs")
    for image in sorted((ROOT / "sample_data/cats").glob("*/*.jpg")):
        if int(image.stem.rpartition("_")[2]) <= IMAGES_PER_CLASS:
            copied = folder / image.relative_to(ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, copied)
    for photographs in ("photos", "cats"):
        shutil.copytree(folder / "sample_data/cats", folder / photographs)
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    save_file(timm.create_model("resnet18").state_dict(), folder / WEIGHTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        transferkit.finetune("sample_data/cats", SHARED_RUN, image_size=32, epochs=2)
    return folder


@pytest.fixture
def hub(example_folder, tmp_path, monkeypatch):
    """A stand-in for the model hub, with one network."""
    weights = (example_folder / WEIGHTS).read_bytes()
    with serve_hub({"timm/resnet18.a1_in1k/model.safetensors": weights}) as (address, _):
        point_client_at(address, tmp_path / "hub", monkeypatch)
        yield


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page__runs_from_top_to_bottom(
    page, cli, hub, fewer_steps, example_folder, tmp_path, monkeypatch
):
    blocks = list(blocks_of(page))
    if {block.language for block in blocks} <= SHOWN_ONLY:
        return
    folder = shutil.copytree(example_folder, tmp_path / "work", symlinks=True)
    if re.search(rf"-o {SHARED_RUN}$", page.read_text("utf-8"), re.MULTILINE):
        shutil.rmtree(folder / SHARED_RUN)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "cache"))

    names: dict[str, object] = {}
    for block in blocks:
        if block.language == "console":
            for line, following in pairwise((*block.lines, "")):
                if line != INTERRUPT:
                    run_line(line, cli, monkeypatch, interrupted=following == INTERRUPT)
        elif block.language == "python":
            exec(compile("\n".join(block.lines), str(page), "exec"), names)
        elif block.language == "sh":
            assert page.name == "README.md", "commands belong in console blocks, after a $"
        else:
            assert block.language in SHOWN_ONLY


def run_line(line: str, cli, monkeypatch, *, interrupted: bool) -> None:
    """Run `$ transferkit ...`, `$ PROGRAM | transferkit ...` or `$ python FILE ...`.

    It must succeed, or end as an interrupted command does.
    """
    assert line.startswith("$ "), f"{line!r}: output belongs in a text block"
    before, _, command = line[2:].rpartition("| ")
    if before:
        listed = subprocess.run(before, shell=True, check=True, capture_output=True, text=True)
        monkeypatch.setattr("sys.stdin", StringIO(listed.stdout))
    program, *words = shlex.split(command)
    if program == "python":
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(words[0], run_name="__main__")
        assert not ended.value.code
        return
    assert program == "transferkit"
    with monkeypatch.context() as patch:
        patch.setattr(
            "transferkit.recipes.serve.Serving.run", lambda serving, when_ready: when_ready()
        )
        if interrupted:
            stop_after(patch, 2)
        ran = cli(*cheaper(words))
    assert ran.code == (130 if interrupted else 0), f"{line}: {ran.err}"


def test_blocks__that_need_more_than_a_checkout_have_a_caption():
    marks = {block.mark for page in PAGES for block in blocks_of(page) if block.mark}

    assert marks == CAPTIONED
    style = (DOCS / "_static/transferkit.css").read_text("utf-8")
    assert all(f".{mark}::before {{ content:" in style for mark in CAPTIONED)


class BuiltPage(HTMLParser):
    """The ids of a built page, and the addresses it loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        address = given.get("href" if tag == "link" else "src")
        if address and tag in ("link", "script", "img", "iframe"):
            self.loaded.append(address)


def test_site__builds_without_a_warning_loads_nothing_and_has_every_option(tmp_path, monkeypatch):
    """One test, since a build executes the notebooks. Broken links are warnings."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", str(tmp_path / "trees"), str(DOCS), str(site)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr

    loaded = [address for page in site.rglob("*.html") for address in BuiltPage(page).loaded]
    assert loaded
    assert [address for address in loaded if re.match("(https?:)?//", address)] == []

    monkeypatch.syspath_prepend(DOCS / "extensions")
    import command_reference

    ids = BuiltPage(site / "reference/commands.html").ids
    for name in command_reference.command_names():
        assert f"command-{name}" in ids
        declared = command_reference.options_of(name)
        flags = [option.flag for option in declared if not option.option.argument]
        anchors = {f"cmdoption-transferkit-{name}-{flag.strip('-')}" for flag in flags}
        assert anchors - ids == set()
