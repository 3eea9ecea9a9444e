"""Precision, and the allocator: settled once, by what the machine has."""

import os
import subprocess
import sys

import pytest
import torch

from transferkit import devices
from transferkit.devices import Precision, has_fast_bf16, keep_freed_memory, resolve_precision

ON_GLIBC = sys.platform == "linux" and "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
PROGRAM = """
import resource
import numpy as np
from transferkit.devices import keep_freed_memory
assert keep_freed_memory() is {done}
for _ in range(100):
    np.ones(4_000_000)  # 32 MB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(*, done: bool, **environment: str) -> int:
    """How many pages a process takes that frees and takes 32 MB a hundred times."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(done=done)],
        env={k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ran.stdout)


@pytest.mark.skipif(not ON_GLIBC, reason="the C library is not glibc")
def test_keep_freed_memory__takes_each_page_once():
    kept = page_faults(done=True)
    returned = page_faults(done=False, MALLOC_TRIM_THRESHOLD_="131072")  # the user's word holds

    assert kept < returned / 3


@pytest.mark.parametrize("error", [ValueError, AttributeError])
def test_keep_freed_memory__of_another_c_library_is_left_alone(monkeypatch, error):
    def unknown(name):
        raise error

    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("os.confstr", unknown)

    assert keep_freed_memory() is False


CPU = torch.device("cpu")


@pytest.mark.parametrize("present", [True, False])
def test_precision_auto__is_bf16_where_there_are_instructions_for_it(monkeypatch, present):
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: present)
    expected = Precision.BF16 if present else Precision.FP32

    assert resolve_precision(Precision.AUTO, CPU) is expected
    assert resolve_precision(Precision.FP32, CPU) is Precision.FP32


@pytest.mark.parametrize("name", devices._BF16_INSTRUCTIONS)
def test_has_fast_bf16__asks_torch_by_names_that_it_has(monkeypatch, name):
    assert hasattr(torch.cpu, name)
    for other in devices._BF16_INSTRUCTIONS:
        monkeypatch.setattr(torch.cpu, other, lambda other=other: other == name)

    assert has_fast_bf16(CPU)


def test_has_fast_bf16__is_no_where_torch_knows_no_such_names(monkeypatch):
    for name in devices._BF16_INSTRUCTIONS:
        monkeypatch.delattr(torch.cpu, name)

    assert not has_fast_bf16(CPU)
    assert not has_fast_bf16(torch.device("mps"))
