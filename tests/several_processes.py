"""Run a program in several processes that work together, as a launcher starts them.

They are forked from one process that has imported torch, which each would otherwise do anew.
"""

import json
import os
import subprocess
import sys
from typing import Any

PARENT = """
import json, os, socket, sys, traceback
import torch, transferkit
import transferkit.recipes.finetune
import transferkit.recipes.finetuning.fit_classifier, transferkit.recipes.finetuning.train_network
import transferkit.training.data_parallel
from transferkit.cli.exits import exit_codes

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])

def start(number, count, port, program):
    if child := os.fork():
        return child
    if count > 1:
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(count),
                       "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
                       "MASTER_PORT": port}
    code = 1
    try:
        exec(program, {"number": number, "count": count})
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)

ended = []
for count, program in json.loads(sys.argv[1]):
    port = free_port()
    children = [start(number, count, port, program) for number in range(count)]
    ended.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
print(json.dumps(ended))
"""


def run_together(*jobs: tuple[int, str], folder: Any) -> list[list[int]]:
    """Run programs one after the other, each in a number of processes.

    A program's text finds the process's `number` and the `count`.

    Returns:
        The exit codes of the processes of each program.
    """
    ran = subprocess.run(
        [sys.executable, "-c", PARENT, json.dumps(jobs)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    print(ran.stderr)  # shown where a test fails
    codes: list[list[int]] = json.loads(ran.stdout.splitlines()[-1])
    return codes
