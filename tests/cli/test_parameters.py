"""Commands made from an options class: parameters, --help, and what the function gets."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from transferkit.cli.console import ConsoleReporter
from transferkit.cli.invocation import Invocation, create_reporter
from transferkit.cli.parameters import takes
from transferkit.errors import OptionError
from transferkit.options.declaration import Option, Options, Range
from transferkit.reporter import SILENT


def even(text: str) -> int:
    number = int(text)
    if number % 2:
        raise OptionError(f"--pairs: got {number}, expected an even number")
    return number


@dataclass(frozen=True)
class Shared(Options):
    seed: Annotated[int, Option(help="Seed.", within=Range(0))] = 0


@dataclass(frozen=True)
class Sample(Shared):
    folder: Annotated[str, Option(argument=True, help="Folder.")] = "here"
    names: Annotated[tuple[str, ...], Option(help="Names.", flags=("-n", "--name"))] = ("a",)
    pairs: Annotated[int, Option(help="Pairs.", parse=even, metavar="EVEN")] = 2


@pytest.fixture
def calls():
    return []


@pytest.fixture
def run(calls):
    @takes(Sample)
    def sample(options, invocation):
        """Take a sample."""
        calls.append((options, invocation))

    app = typer.Typer()
    app.command()(sample)

    @app.callback()
    def given(context: typer.Context):
        context.obj = Invocation(create_reporter(quiet=False), began=1.5)

    return lambda *words: CliRunner().invoke(app, ["sample", *words])


def test_takes__turns_words_into_options(run, calls):
    assert run("there", "-n", "x", "--name", "y", "--pairs", "4", "--seed", "7").exit_code == 0
    assert run().exit_code == 0

    assert [options for options, _ in calls] == [
        Sample(folder="there", names=("x", "y"), pairs=4, seed=7),
        Sample(),
    ]


def test_takes__gives_the_invocation_and_silences_it_on_request(run, calls):
    run()
    run("--quiet")

    (_, loud), (_, quiet) = calls
    assert isinstance(loud.reporter, ConsoleReporter)
    assert quiet == Invocation(SILENT, began=1.5)


def test_takes__lists_own_options_first(run):
    text = run("--help").output

    places = [text.index(word) for word in ("FOLDER", "--name", "--pairs", "--seed", "--quiet")]
    assert places == sorted(places)


@pytest.mark.parametrize("words", [["--seed", "-1"], ["--pairs", "3"]])
def test_takes__reports_a_value_out_of_range_in_one_line(run, calls, words):
    ran = run(*words)

    assert (ran.exit_code, calls) == (2, [])
    assert ran.output.startswith(f"error: {words[0]}: got {words[1]}, expected ")
    assert len(ran.output.splitlines()) == 1


def test_takes__points_to_help_for_a_value_it_cannot_parse(run, calls):
    ran = run("--pairs", "many")

    assert (ran.exit_code, calls) == (2, [])
    assert "--help' for help" in ran.output


def test_command__refuses_to_run_once_in_each_of_several_processes(run, calls, monkeypatch):
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    result = run("here")

    assert result.exit_code == 2
    assert "start it without torchrun" in result.stderr
    assert not calls
