"""What processes that work together exchange."""

import json

import numpy as np
import pytest
from several_processes import run_together

from transferkit.errors import OptionError
from transferkit.processes import ALONE, Processes, join, started_processes

EXCHANGES = """
import json
import numpy as np, torch
from transferkit.processes import join

def not_here():
    raise AssertionError("only the first process computes this")

together = join(None)
own = together.share(np.arange(7))
found = {
    "who": [together.number, together.count, together.is_first],
    "first": together.from_first((lambda: "word") if number == 0 else not_here),
    "gathered": together.gather(number),
    "rows": together.gather_rows(own[:, None] * 10).tolist(),
    "shares": together.gather_shares([f"image {row}" for row in own]),
    "total": together.total(torch.tensor([1.0, float(number)])).tolist(),
    "highest": together.highest([number, 5 - number]),
}
together.wait()
with open(f"{count}-{number}.json", "w") as file:
    json.dump(found, file)
"""

ONE_ENDS = """
import os, torch
from transferkit.errors import OtherProcessError
from transferkit.processes import join

together = join(2)
together.wait()
if number == 1:
    os._exit(7)
try:
    together.total(torch.ones(3))
except OtherProcessError:
    os._exit(9)
"""


FIRST_FAILS = """
import os
from transferkit.errors import OptionError, OtherProcessError
from transferkit.processes import join

together = join(2)

def refuse():
    raise OptionError("--strategy: no")

try:
    together.from_first(refuse)
except (OptionError, OtherProcessError) as error:
    kind = OptionError if number == 0 else OtherProcessError
    assert type(error) is kind and "--strategy: no" in str(error), repr(error)
assert together.gather(number) == [0, 1]
assert together.lowest(5 + number) == 5
"""

PROGRAMS = {
    "alone": (1, EXCHANGES),
    "three": (3, EXCHANGES),
    "first fails": (2, FIRST_FAILS),
    "one ends": (2, ONE_ENDS),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the programs are run."""
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def codes(folder):
    """The exit codes of each program's processes; one parent imports torch for all of them."""
    found = run_together(*PROGRAMS.values(), folder=folder)
    return dict(zip(PROGRAMS, found, strict=True))


def test_exchanges__give_every_process_the_same(codes, folder):
    assert (codes["alone"], codes["three"]) == ([0], [0, 0, 0])
    for count in (1, 3):
        for number in range(count):
            found = json.loads((folder / f"{count}-{number}.json").read_text())
            assert found == {
                "who": [number, count, number == 0],
                "first": "word",
                "gathered": list(range(count)),
                "rows": [[10 * row] for row in range(7)],
                "shares": [f"image {row}" for row in range(7)],
                "total": [count, sum(range(count))],
                "highest": [count - 1, 5],
            }


def test_from_first__raises_in_all_what_fails_in_the_first(codes):
    assert codes["first fails"] == [0, 0]


def test_exchanges__notice_a_process_that_has_ended(codes):
    assert codes["one ends"] == [9, 7]


def test_alone__exchanges_nothing():
    rows = np.arange(4)

    assert ALONE.share(rows) is not None
    assert ALONE.gather_rows(rows) is rows
    assert ALONE.gather_shares([1, 2]) == [1, 2]
    assert ALONE.highest([3, 1]) == [3, 1]


def test_started_processes__are_those_of_the_environment(monkeypatch):
    assert started_processes() == ALONE
    for name, value in {"RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    assert started_processes() == Processes(5, 8, 1, 4)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert started_processes() == ALONE


def test_join__refuses_another_number_of_processes():
    with pytest.raises(OptionError, match=r"--processes 4: this is one of 1 on this.* torchrun"):
        join(4)
