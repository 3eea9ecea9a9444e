"""The processes that train one model together: who they are, and what they exchange.

torch's elastic launcher (`torchrun`, or `--processes`) starts them and tells each its number in the
environment. A process that runs alone exchanges nothing and imports nothing for it.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from transferkit.errors import OptionError, OtherProcessError, TransferKitError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_T = TypeVar("_T")


class _Divisible(Protocol):
    def __getitem__(self, key: slice, /) -> Any: ...


_D = TypeVar("_D", bound=_Divisible)

_LONGEST_WAIT = timedelta(days=1)
"""How long processes wait for each other. One that ends is noticed before, by its connections."""


@dataclass(frozen=True)
class Processes:
    """This process among those that work together.

    Every method that exchanges something must be called by all of them, in the same order. It
    raises `OtherProcessError` when one of them has failed.

    Attributes:
        number: Number of this process, from 0.
        count: Number of processes on all machines.
        number_here: Number of this process among those on its machine, from 0.
        count_here: Number of processes on this machine.
    """

    number: int = 0
    count: int = 1
    number_here: int = 0
    count_here: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports and writes."""
        return self.number == 0

    @property
    def are_several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def share(self, items: _D) -> _D:
        """Return the items of a list or array that are this process's: every `count`-th."""
        own: _D = items[self.number :: self.count]
        return own

    def share_here(self, items: _D) -> _D:
        """Return the items that are this process's among those of its machine."""
        own: _D = items[self.number_here :: self.count_here]
        return own

    def from_first(self, compute: Callable[[], _T]) -> _T:
        """Return what `compute` returns in the first process, which alone calls it."""
        if not self.are_several:
            return compute()
        import torch.distributed as dist

        content: list[Any] = [None, ""]
        failure: TransferKitError | None = None
        if self.is_first:
            try:
                content[0] = compute()
            except TransferKitError as error:
                failure, content[1] = error, str(error)
        with noticing_others():
            dist.broadcast_object_list(content, src=0)
        if failure:
            raise failure
        if reason := content[1]:
            raise OtherProcessError(reason)
        found: _T = content[0]
        return found

    def gather(self, value: _T) -> list[_T]:
        """Return the values of all processes, in their order."""
        if not self.are_several:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        with noticing_others():
            dist.all_gather_object(values, value)
        return values

    def gather_shares(self, items: Sequence[_T]) -> list[_T]:
        """Return the items of all processes in the order that they had before `share`."""
        parts = self.gather(items)
        found: list[Any] = [None] * sum(map(len, parts))
        for number, part in enumerate(parts):
            found[number :: self.count] = part
        return found

    def gather_rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all processes in the order that they had before `share`."""
        if not self.are_several:
            return rows
        import numpy as np

        parts = self.gather(rows)
        found = np.empty((sum(map(len, parts)), *rows.shape[1:]), dtype=rows.dtype)
        for number, part in enumerate(parts):
            found[number :: self.count] = part
        return found

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of the tensors of all processes, the same to the bit in each."""
        if not self.are_several:
            return values
        import torch.distributed as dist

        summed = values.clone()
        with noticing_others():
            dist.all_reduce(summed)
        return summed

    def highest(self, numbers: Sequence[int]) -> list[int]:
        """Return the highest of each number over all processes."""
        if not self.are_several:
            return list(numbers)
        import torch
        import torch.distributed as dist

        found = torch.tensor(numbers)
        with noticing_others():
            dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return found.tolist()

    def lowest(self, number: int) -> int:
        """Return the lowest of a number over all processes."""
        return -self.highest([-number])[0]

    def wait(self) -> None:
        """Wait until all processes have arrived here."""
        self.highest([0])

    def finish(self) -> None:
        """Wait until all processes have finished their work."""
        self.wait()
        if self.are_several:
            _leave_at_exit()


ALONE = Processes()


def started_processes() -> Processes:
    """Return this process among those that a launcher has started together, by the environment."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    found = [os.environ.get(name, "") for name in names]
    if not all(text.isdecimal() for text in found) or int(found[1]) < 2:
        return ALONE
    return Processes(*map(int, found))


def join(wanted: int | None) -> Processes:
    """Join the processes that a launcher has started together, until this process ends.

    Args:
        wanted: How many there should be on this machine; None for any number.

    Raises:
        OptionError: When there is another number of them.
        OtherProcessError: When one of them cannot be reached.
    """
    found = started_processes()
    if wanted not in (None, found.count_here):
        raise OptionError(
            f"--processes {wanted}: this is one of {found.count_here} on this machine; start it "
            f"from the command line, or with torchrun --nproc-per-node {wanted}"
        )
    if not found.are_several:
        return ALONE
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with noticing_others():
            dist.init_process_group(backend, timeout=_LONGEST_WAIT)
        if backend == "gloo":
            _leave_at_exit()
    return found


@cache
def _leave_at_exit() -> None:
    """Leave the others when this process ends; with GPUs that waits for them."""
    import torch.distributed as dist

    atexit.register(dist.destroy_process_group)


@contextmanager
def noticing_others() -> Iterator[None]:
    """Raise the error of an exchange that failed because another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if is_of_other_process(error):
            raise OtherProcessError(" ".join(str(error).split())[:200]) from error
        raise


def is_of_other_process(error: RuntimeError) -> bool:
    """Return whether torch raised an error because it cannot reach another process."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error)
