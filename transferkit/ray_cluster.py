"""Passes over many images on a Ray cluster, by Ray Data. The only module that imports Ray."""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from transferkit.devices import CORES_VARIABLE, available_cores
from transferkit.errors import EngineError, TransferKitError

LOCAL = "ray"
"""The address of a cluster of this machine, which is started for the call."""

_CORES_PER_ACTOR = 4
"""A pass on one core more is hardly faster from there on, but every actor holds the model."""

_EXCEPTION = re.compile(r"(?!ray\.)([a-z_]\w*\.)*[A-Z]\w*: ")
"""How a line begins with an exception and what it says; those of Ray only wrap others."""

Compute = Callable[[list[Any]], bytes]
"""What an actor does: the images of a task, as JSON values, to a result."""


def compute_on_ray(
    tasks: Iterable[tuple[int, list[Any]]],
    create: Callable[[], Compute],
    *,
    address: str,
    actors: int | None,
) -> Iterator[tuple[int, bytes]]:
    """Compute tasks on a cluster, each once, and yield (number, result) as they are done.

    A task whose worker dies is computed again by another one.

    Args:
        tasks: Number and images of each, as JSON values; without any, no cluster is started.
        create: Called once in each actor, to load what it computes with.
        address: `LOCAL`, or `ray://HOST:PORT` of a cluster that runs.
        actors: Number of actors; None for one per four cores, or one per GPU.

    Raises:
        EngineError: When Ray is not installed, the cluster cannot be reached, or a task fails.
    """
    # As JSON, because columns of text cannot hold every name of a file.
    rows = [{"number": number, "images": json.dumps(images)} for number, images in tasks]
    if not rows:
        return
    with _connected(address) as ray:
        resources = ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        count = actors or gpus or max(1, cores // _CORES_PER_ACTOR)
        # On the cluster itself, because Ray Data does not run in a client of it.
        pipeline = ray.remote(num_cpus=0)(_Pipeline).remote(
            rows, create, actors=count, cores=max(1, cores // count), gpus=min(gpus, 1)
        )
        while (found := ray.get(pipeline.next.remote())) is not None:
            number, result, error = found
            if error:
                raise EngineError(f"--on {address}: {error}")
            yield number, result


class _Pipeline:
    """A pass of Ray Data over tasks, whose results are asked for one by one.

    Args:
        rows: Number and images of each task, one or more.
        create: Called once in each actor.
        actors: Number of actors.
        cores: Cores of each.
        gpus: GPUs of each.
    """

    def __init__(
        self,
        rows: list[dict[str, Any]],
        create: Callable[[], Compute],
        *,
        actors: int,
        cores: int,
        gpus: int,
    ) -> None:
        import ray.data

        class Actor:
            def __init__(self) -> None:
                self.compute = create()

            def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
                result, error = b"", ""
                try:
                    result = self.compute(json.loads(batch["images"][0]))
                except TransferKitError as reason:
                    error = str(reason)  # as a value, because Ray wraps errors in pages of its own
                return {"number": batch["number"], "result": [result], "error": [error]}

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        computed = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Actor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=cores,
            num_gpus=gpus or None,
            runtime_env={"env_vars": {CORES_VARIABLE: str(cores)}},
        )
        self._found = iter(computed.iter_rows())

    def next(self) -> tuple[int, bytes, str] | None:
        """Return the number, the result and the error of a task that is done; None at the end."""
        row = next(self._found, None)
        if row is None:
            return None
        return int(row["number"]), bytes(row["result"]), str(row["error"])


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yield Ray, connected to a cluster, and leave it at the end of the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Below `uv run`, Ray would send the whole current folder to its workers, images and all, and
    # install an environment for each.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise EngineError(
            f"--on ray: Ray is not installed ({error}); install it with: "
            "pip install 'transferkit[ray]'"
        ) from error
    where = {"num_cpus": available_cores()} if address == LOCAL else {"address": address}
    try:
        ray.init(
            **where,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(f"--on {address}: cannot be reached ({_reason(error)})") from error
    # Ray tells of workers that have died on standard output, which is for results.
    with redirect_stdout(sys.stderr):
        try:
            yield ray
        except ray.exceptions.RayError as error:
            raise EngineError(f"--on {address}: {_reason(error)}") from error
        finally:
            ray.shutdown()


def _reason(error: BaseException) -> str:
    """Return the exception that Ray's message quotes, or the end of the message without one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    quoted = [line for line in lines if _EXCEPTION.match(line)]
    return (quoted or lines or [type(error).__name__])[-1][:300]
