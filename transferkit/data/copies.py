"""Copies of one picture: the same file again, the picture encoded anew, or in another size.

A perceptual hash proposes pairs and the pixels decide, since a hash alone takes simple drawings on
a plain ground for one another.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BYTES = 32
NEEDED = 64
"""Pixels of the shorter side that a hash is made from."""

_SIDE = 16
_DISTANCE = 24
_MOST_COMPARED = 1000
_COMPARED_SIDE = 32
_MEAN_DIFFERENCE = 12.0
"""Of 255, over pixels and channels. Of 1,596 photographs the copies made by compressing and scaling
differed by 8 or less, in drawings by 13; no other pair was near in its hash at all."""
_PLAIN = 1.0


def perceptual_hash(image: Image.Image) -> NDArray[np.uint8]:
    """What stays nearly the same when a picture is encoded anew or scaled, (32,) uint8.

    The signs of 256 low frequencies of the discrete cosine transform against their median
    (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010).
    """
    return np.packbits(imagehash.phash(image, hash_size=_SIDE).hash)


def same_picture(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures are one, apart from their size and how they were compressed.

    Of plain ones, which show nothing, no two are.
    """
    first, second = (_small(image) for image in (one, other))
    if min(part.std(axis=(0, 1)).max() for part in (first, second)) < _PLAIN:
        return False
    return float(np.abs(first - second).mean()) <= _MEAN_DIFFERENCE


def _small(image: Image.Image) -> NDArray[np.float32]:
    side = (_COMPARED_SIDE, _COMPARED_SIDE)
    return np.asarray(image.convert("RGB").resize(side, Image.Resampling.BOX), dtype=np.float32)


def number_copies(
    names: Sequence[str],
    hashes: NDArray[np.uint8],
    alike: Callable[[int, int], bool],
) -> NDArray[np.int64]:
    """The same number for all copies of one picture.

    Args:
        names: N digests of the files: equal ones are copies.
        hashes: (N, 32) uint8 perceptual hashes.
        alike: Whether the pictures at two positions show the same; asked of pairs whose hashes
            are near.

    Returns:
        (N,) int64, of each picture the position of the first of its copies.
    """
    first: dict[str, int] = {}
    groups = _Groups(len(names))
    for row, name in enumerate(names):
        groups.join(first.setdefault(name, row), row)
    distinct = np.array(sorted(first.values()), dtype=np.int64)
    for a, b in near_pairs(hashes[distinct]):
        one, other = int(distinct[a]), int(distinct[b])
        if groups.find(one) != groups.find(other) and alike(one, other):
            groups.join(one, other)
    return np.array([groups.find(row) for row in range(len(names))], dtype=np.int64)


def near_pairs(hashes: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Positions of any two of (N, 32) uint8 hashes that differ in few bits of the 256.

    Those that differ in 15 bits or fewer are all found, nearly all up to 24, none beyond: of 16
    bands of 16 bits one must be equal, and only within such are hashes compared, each with no more
    than the next 1,000. So the time grows with the number of pictures and not with its square. Of
    equal hashes each is paired with the first and with the next.
    """
    distinct, kind = np.unique(hashes, axis=0, return_inverse=True)
    order = np.argsort(kind.ravel(), kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(kind.ravel()[order])) + 1)
    pairs = _near_of(distinct, [rows[0] for rows in members])
    found = {(min(pair), max(pair)) for pair in pairs}
    for rows in members:
        found.update((int(rows[0]), int(row)) for row in rows[1:])
        found.update(pairwise(rows.tolist()))
    yield from sorted(found)


def _near_of(hashes: NDArray[np.uint8], names: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of names of near ones among hashes that are distinct and in order."""
    words = np.ascontiguousarray(hashes).view(np.uint64)
    for band in words.view(np.uint16).T:
        # Stable: within a band the most alike stand side by side, as they do in all.
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order].astype(np.int64), prepend=-1))
        for a, b in _pairs_within(order, np.append(starts, len(order))):
            near = np.bitwise_count(words[a] ^ words[b]).sum(axis=1) <= _DISTANCE
            for one, other in zip(a[near].tolist(), b[near].tolist(), strict=True):
                yield int(names[one]), int(names[other])


def _pairs_within(
    order: NDArray[np.int64], edges: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs within each part of `order` between two edges, many at a time."""
    sizes = np.diff(edges)
    # The k-th neighbour to the right, for all positions that have one in their part.
    rest = np.repeat(edges[1:], sizes) - np.arange(len(order)) - 1
    for step in range(1, min(_MOST_COMPARED, int(rest.max(initial=0))) + 1):
        left = np.flatnonzero(rest >= step)
        yield (
            np.minimum(order[left], order[left + step]),
            np.maximum(order[left], order[left + step]),
        )


class _Groups:
    """Disjoint sets of rows, each known by its first (Tarjan, J. ACM 22, 1975)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.find(one), self.find(other)))
        self._parent[second] = first
