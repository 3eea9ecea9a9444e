"""Ray clusters in tests: workers to kill, and a stand-in that computes in this process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


class ClusterInThisProcess:
    """What computes tasks in place of `compute_on_ray`.

    Attributes:
        computed: Numbers of the tasks that were computed.
        stops_after: The number of tasks after which Ctrl-C comes; None for never.
    """

    def __init__(self) -> None:
        self.computed: list[int] = []
        self.stops_after: int | None = None

    def __call__(self, tasks, create, *, address, actors) -> Iterator[tuple[int, bytes]]:
        compute = create()
        for number, images in tasks:
            if len(self.computed) == self.stops_after:
                raise KeyboardInterrupt
            self.computed.append(number)
            yield number, compute(json.loads(json.dumps(images)))


def start_command(*words: object, below_uv_run: Path | None = None) -> subprocess.Popen[str]:
    """Start the command line in a process of its own.

    Args:
        words: Its words.
        below_uv_run: A folder to start it in, below a process that looks like `uv run`.
    """
    started: list[str] = [sys.executable, "-m", "transferkit", *map(str, words)]
    if below_uv_run is not None:
        (below_uv_run / "run").write_text('"$@"\nexit $?\n')
        started = ["uv", "run", *started]
    return subprocess.Popen(
        started,
        executable="/bin/sh" if below_uv_run else None,
        cwd=below_uv_run,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_a_worker(driver: subprocess.Popen[str]) -> None:
    """Kill one of the actors of a command's cluster, as soon as there is one."""
    while not (workers := _workers_of(driver.pid)):
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    os.kill(workers[0], signal.SIGKILL)


def _workers_of(driver: int) -> list[int]:
    parents, actors = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2]
            parents[int(folder.name)] = int(stat.split()[1])
            if b"MapWorker" in (folder / "cmdline").read_bytes():
                actors.append(int(folder.name))
        except OSError:
            continue  # it has ended meanwhile
    return [actor for actor in actors if driver in _ancestors(actor, parents)]


def _ancestors(process: int, parents: dict[int, int]) -> set[int]:
    found = set()
    while process := parents.get(process, 0):
        found.add(process)
    return found
