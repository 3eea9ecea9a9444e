"""The command line, called in this process."""

from typing import NamedTuple

import pytest

from transferkit.cli import main


class Ran(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


def call_main(
    words: tuple[object, ...], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Ran:
    """Run `transferkit WORDS` as the console script does, into a pipe of no known width."""
    monkeypatch.setattr("sys.argv", ["transferkit", *map(str, words)])
    # Python's readline, if something imports it, sets COLUMNS to 80.
    monkeypatch.delenv("COLUMNS", raising=False)
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return Ran(code, captured.out, captured.err)
