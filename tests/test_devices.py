"""Precision, the memory budget, threads and the allocator."""

import os
import subprocess
import sys

import pytest
import torch

from transferkit import devices
from transferkit.devices import (
    Precision,
    available_cores,
    default_workers,
    has_fast_bf16,
    keep_freed_memory,
    memory_budget,
    resolve_precision,
)

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
    """Count the page faults of a process that allocates and frees 32 MB a hundred times."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(done=done)],
        env={k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ran.stdout)


@pytest.mark.skipif(not ON_GLIBC, reason="the C library is not glibc")
def test_keep_freed_memory__maps_each_page_once():
    kept = page_faults(done=True)
    # The user's own setting has priority.
    returned = page_faults(done=False, MALLOC_TRIM_THRESHOLD_="131072")

    assert kept < returned / 3


@pytest.mark.parametrize("error", [ValueError, AttributeError])
def test_keep_freed_memory__leaves_another_c_library_alone(monkeypatch, error):
    def unknown(name):
        raise error

    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("os.confstr", unknown)

    assert keep_freed_memory() is False


CPU = torch.device("cpu")


@pytest.mark.parametrize("present", [True, False])
def test_precision_auto__is_bf16_if_the_hardware_has_it(monkeypatch, present):
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: present)
    expected = Precision.BF16 if present else Precision.FP32

    assert resolve_precision(Precision.AUTO, CPU) is expected
    assert resolve_precision(Precision.FP32, CPU) is Precision.FP32


@pytest.mark.parametrize("name", devices._BF16_INSTRUCTIONS)
def test_has_fast_bf16__asks_torch_under_names_that_exist(monkeypatch, name):
    assert hasattr(torch.cpu, name)
    for other in devices._BF16_INSTRUCTIONS:
        monkeypatch.setattr(torch.cpu, other, lambda other=other: other == name)

    assert has_fast_bf16(CPU)


def test_has_fast_bf16__is_false_if_torch_has_no_such_names(monkeypatch):
    for name in devices._BF16_INSTRUCTIONS:
        monkeypatch.delattr(torch.cpu, name)

    assert not has_fast_bf16(CPU)
    assert not has_fast_bf16(torch.device("mps"))


UNLIMITED_V1 = 9223372036854771712


def cgroup(tmp_path, membership, limits):
    """Write a process's membership file and its control groups' limits; return both paths."""
    (tmp_path / "membership").write_text(membership)
    for place, limit in limits.items():
        (tmp_path / "root" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / place).write_text(f"{limit}\n")
    return tmp_path / "root", tmp_path / "membership"


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": 4_000_000}, 1_000_000),
        ("0::/a/b\n", {"memory.max": "max", "a/memory.max": 8_000_000}, 2_000_000),
        ("0::/a/b\n", {"a/memory.max": 8_000_000, "a/b/memory.max": 4_000_000}, 1_000_000),
        (
            "9:cpu:/\n5:pids,memory:/host/x\n0::/\n",
            {"memory/memory.limit_in_bytes": 6_000_000},
            1_500_000,
        ),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": UNLIMITED_V1}, None),
        ("0::/a\n", {"a/memory.max": "max"}, None),
        ("0::/gone\n", {}, None),
    ],
    ids=["v2", "v2 parent", "v2 lowest", "v1 container", "v1 unlimited", "v2 unlimited", "gone"],
)
def test_memory_budget__is_a_quarter_of_what_the_control_group_allows(
    tmp_path, membership, limits, expected
):
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4

    assert memory_budget(*cgroup(tmp_path, membership, limits)) == (expected or machine)


def test_memory_budget__is_a_quarter_of_the_machine_without_control_groups(tmp_path):
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    assert memory_budget(tmp_path, tmp_path / "no such file") == machine // 4


def test_memory_budget__is_2_gib_if_the_system_does_not_say(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")

    assert memory_budget(tmp_path, tmp_path / "no such file") == 2**31


@pytest.mark.parametrize(("cores", "workers"), [(3, 3), (64, 16), (None, 1)])
def test_default_workers__are_one_per_core_without_affinity(monkeypatch, cores, workers):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)

    assert default_workers() == workers


@pytest.mark.parametrize("cores", [1, 5])
def test_default_workers__are_one_per_core_that_the_process_may_use(monkeypatch, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    assert default_workers() == cores


@pytest.mark.parametrize(
    ("system", "machine", "drivers", "expected"),
    [
        ("linux", "x86_64", (), False),
        ("linux", "x86_64", ("driver",), True),
        ("darwin", "arm64", (), True),
        ("darwin", "x86_64", (), False),
    ],
)
def test_may_have_gpu__looks_for_drivers(monkeypatch, tmp_path, system, machine, drivers, expected):
    for name in drivers:
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "_GPU_DRIVERS", (str(tmp_path / "driver"),))
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)

    assert devices.may_have_gpu() is expected


def test_may_have_gpu__is_no_where_torch_finds_none():
    found = torch.cuda.is_available() or torch.backends.mps.is_available()

    assert devices.may_have_gpu() or not found


def test_available_cores__are_divided_among_processes_and_limited_by_the_environment(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert available_cores() == 8
    monkeypatch.setenv("TRANSFERKIT_CORES", "3")
    assert available_cores() == 3
    for name, value in {"RANK": 0, "WORLD_SIZE": 4, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    assert available_cores() == 2
    monkeypatch.setenv("TRANSFERKIT_CORES", "many")
    assert available_cores() == 2
