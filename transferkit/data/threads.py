"""Apply a function to many items in threads, with results in the items' order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Event
from typing import TypeVar

from transferkit.places import asking_until

_T = TypeVar("_T")
_R = TypeVar("_R")


def map_in_order(
    function: Callable[[_T], _R], items: Iterable[_T], *, workers: int, ahead: int
) -> Generator[_R]:
    """Yield `function(item)` for every item, in order, computed by `workers` threads.

    Args:
        function: Called in the threads. An error is raised in place of its result.
        items: Items, consumed as needed.
        workers: Number of threads.
        ahead: Number of items in progress at once, which bounds memory.

    >>> list(map_in_order(abs, [-2, 1, -3], workers=2, ahead=2))
    [2, 1, 3]
    """
    stopped = Event()

    def run(item: _T) -> _R:
        with asking_until(stopped):
            return function(item)

    waiting = iter(items)
    begun: deque[Future[_R]] = deque()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            begun.extend(pool.submit(run, item) for item in islice(waiting, ahead))
            while begun:
                result = begun.popleft().result()
                begun.extend(pool.submit(run, item) for item in islice(waiting, 1))
                yield result
        finally:
            # Ctrl-C and a consumer that stops early end here too: do not wait for items that no
            # thread has started, nor for a store that fails.
            stopped.set()
            pool.shutdown(cancel_futures=True)
