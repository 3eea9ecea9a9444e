"""The application: its version, its help, --quiet, and no connection without need."""

import re
from itertools import pairwise

import pytest
from commands import COMMANDS
from tiny_backbone import TINY


def test_version(cli):
    from transferkit import __version__

    assert cli("--version") == (0, f"transferkit {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help__has_an_example(cli, command):
    ran = cli(command, "--help")

    assert ran.code == 0
    assert f"  transferkit {command} " in ran.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help__breaks_lines_at_the_width_of_the_terminal(cli, monkeypatch, command):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 40)
    prose = cli(command, "--help").out.partition("╭")[0]
    examples = re.search(r" Examples: *\n.*?\n *\n", prose, re.DOTALL)
    assert examples
    prose = prose.replace(examples[0], "\n")
    lines = [line.strip() for line in prose.splitlines()]
    broken = [(line, after) for line, after in pairwise(lines) if line and after]

    assert broken
    for line, after in broken:
        assert len(line) + len(" " + after.split()[0]) > 40 - len("  "), line


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet__silences_standard_error(cli, image_folder, tmp_path, place):
    words = ["finetune", image_folder, *TINY, "--epochs", 1, "-o", tmp_path / "run"]
    ran = cli(*(["--quiet", *words] if place == "before" else [*words, "--quiet"]))

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("val accuracy ")


def test_commands__open_no_connection_when_every_name_is_local(
    cli, image_folder, run_folder, tmp_path, monkeypatch
):
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(f"socket.socket.{name}", lambda *_: pytest.fail("a connection"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a name looked up"))

    codes = [
        cli(*words).code
        for words in (
            ("finetune", image_folder, "-b", "edges8", "--epochs", 1, "-o", tmp_path / "run"),
            ("finetune", image_folder, "-b", f"local-dir:{run_folder}/model", "--image-size", 32,
             "--strategy", "features", "-o", tmp_path / "svm"),
            ("predict", image_folder / "red/0.png", "-m", tmp_path / "svm"),
            ("evaluate", image_folder, "-m", run_folder, "-o", tmp_path / "metrics.json"),
            ("extract-features", image_folder, "-m", run_folder, "-o", tmp_path / "f.npz"),
            ("backbones", "--local"),
            ("inspect", "resnet18"),
        )
    ]  # fmt: skip

    assert codes == [0] * 7
