"""A command in several processes: start them with torch's launcher, and end as they end.

Each of them runs the same command line; the first one shows the run.
"""

import os
import sys
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import typer

from transferkit.cli.exits import EXIT_CODE, LAUNCHED, SOME_LEFT_OUT, print_error
from transferkit.devices import Device
from transferkit.interruption import TIME_TO_STOP, stop_error
from transferkit.options.parsers import AUTO
from transferkit.processes import started_processes

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import ProcessFailure


def processes_to_start(wanted: int | Literal["auto"] | None, device: Device) -> int:
    """Return how many processes to start; 1 if this process is to do the work itself.

    Args:
        wanted: The value of `--processes`; auto is one per GPU.
        device: The value of `--device`.
    """
    if wanted is None or started_processes().are_several:
        return 1
    if wanted != AUTO:
        return wanted
    import torch

    has_gpus = device in (Device.AUTO, Device.CUDA)
    return max(1, torch.cuda.device_count()) if has_gpus else 1


def launch(count: int) -> None:
    """Run this command line in several processes of this machine, and wait for their end.

    Raises:
        typer.Exit: With the exit code of the first that failed, if one did.
        KeyboardInterrupt: When a signal has stopped them.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[LAUNCHED] = "1"
    with TemporaryDirectory(prefix="transferkit-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            shutdown_timeout=TIME_TO_STOP,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
        except ChildFailedError as error:
            code = _tell(error.failures, count)
            raise typer.Exit(code) from error
        except SignalException as stop:
            raise stop_error(stop.sigval) from stop


def _tell(failures: "Mapping[int, ProcessFailure]", count: int) -> int:
    """Print why processes failed, in one line, and return the exit code."""
    rank, first = min(failures.items(), key=lambda item: (not _told(item[1]), item[1].timestamp))
    if told := _told(first):
        print_error(told["message"])
        return int(told[EXIT_CODE])
    if first.exitcode == SOME_LEFT_OUT:
        return SOME_LEFT_OUT  # it has finished, as the others have
    if first.exitcode < 0:
        how = f"was ended by {first.signal_name()}"
    else:
        how = f"failed with exit code {first.exitcode}"
    print_error(
        f"process {rank + 1} of {count} {how}, so the run was stopped; resume it from its "
        "last checkpoint with --resume"
    )
    return 1


def _told(failure: "ProcessFailure") -> Mapping[str, Any]:
    """Return what a process wrote about its error; empty if it wrote nothing."""
    data: Any = failure.error_file_data
    return data if isinstance(data, dict) and EXIT_CODE in data else {}
