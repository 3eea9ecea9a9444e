"""Choose where rows and pixels that are read more than once are cached: disk, memory or nowhere."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from transferkit.devices import Cache, memory_budget
from transferkit.errors import OptionError
from transferkit.processes import started_processes
from transferkit.row_cache import cache_folder


@dataclass(frozen=True)
class CacheChoice:
    """Where the output of frozen layers is cached.

    Attributes:
        place: Memory or disk; off if it is computed in every epoch.
        size: Bytes of all rows.
        why_not: Why nothing is cached, for the plan; empty if something is.
    """

    place: Cache
    size: int = 0
    why_not: str = ""


def choose_cache(wanted: Cache, size: int, *, limit: int, what: str) -> CacheChoice:
    """Choose where to cache `size` bytes of rows.

    Args:
        wanted: The value of `--cache`; `auto` prefers disk, then memory where there is one process.
        size: Bytes of all rows.
        limit: Bytes that the cache may take on disk.
        what: What needs the rows, for messages.

    Raises:
        OptionError: When memory or disk is requested and has too little room.
    """
    if wanted is Cache.OFF:
        return CacheChoice(Cache.OFF, why_not="--cache off")
    processes = started_processes()
    # All processes must choose the same, whatever the disks of their machines.
    disk = processes.lowest(min(limit, _free_disk() // 2))
    room = {Cache.DISK: disk, Cache.MEMORY: memory_budget()}
    if processes.are_several:
        del room[Cache.MEMORY]  # what one process computes, another could not read
    if wanted is not Cache.AUTO:
        if size > room[wanted]:
            raise OptionError(
                f"--cache {wanted}: {what} needs {describe_bytes(size)}, and there is room "
                f"for {describe_bytes(room[wanted])}; use fewer --views, a higher --cache-limit, "
                "or auto"
            )
        return CacheChoice(wanted, size)
    place = next((place for place in room if size <= room[place]), None)
    if place is None:
        return CacheChoice(Cache.OFF, why_not=f"it would take {describe_bytes(size)}")
    return CacheChoice(place, size)


def choose_pixel_cache(wanted: Cache, size: int, *, epochs: int) -> Cache:
    """Choose where to cache decoded pixels.

    Args:
        wanted: The value of `--cache`; `auto` is memory if they fit, else disk.
        size: Bytes of all pixels.
        epochs: Number of epochs that decode images; pixels read once are not cached.
    """
    if wanted is Cache.OFF or epochs < 2:
        return Cache.OFF
    if wanted is Cache.AUTO:
        return Cache.MEMORY if size <= memory_budget() else Cache.DISK
    return wanted


def _free_disk() -> int:
    folder: Path = cache_folder()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def describe_bytes(size: int) -> str:
    """Return a number of bytes in a readable unit.

    >>> describe_bytes(1_234_567)
    '1.2 MB'
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
