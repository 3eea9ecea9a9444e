"""Copies of one picture: the same file again, the picture encoded anew, or in another size.

What a picture looks like is kept as a signature of 80 bytes: a perceptual hash of its brightness
and a few colours. Two are copies when both are near.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEEDED = 64
"""Pixels of the shorter side that a signature is made from."""

_HASH_SIDE, _HASH_BYTES = 16, 32
_COLOUR_SIDE = 4
SIGNATURE_BYTES = _HASH_BYTES + 3 * _COLOUR_SIDE**2

_DISTANCE = 24
"""Bits of 256. Of 1,596 photographs copies made by compressing and scaling differed by 22 or less,
no two others by less than 82, but for two that were cut from one picture."""
_DIFFERENCE = 12.0
"""Of the colours' 255, in the mean."""
_PLAIN = 1.0
"""Standard deviation of pixels, of 255, below which a picture shows nothing."""
_MOST_COMPARED = 1000


def signature(image: Image.Image) -> NDArray[np.uint8]:
    """What stays nearly the same when a picture is encoded anew or scaled, (80,) uint8.

    32 bytes are the signs of 256 low frequencies of the discrete cosine transform against their
    median (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010), all
    zero for a plain picture; 48 bytes are its colours in a grid of 4 by 4.
    """
    image = image.convert("RGB")
    colours = image.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    seen = np.asarray(image.resize((NEEDED, NEEDED), Image.Resampling.BOX), dtype=np.float32)
    bits = np.zeros(_HASH_BYTES, dtype=np.uint8)
    if seen.std(axis=(0, 1)).max() >= _PLAIN:
        bits = np.packbits(imagehash.phash(image, hash_size=_HASH_SIDE).hash)
    return np.concatenate([bits, np.asarray(colours).ravel()])


def number_copies(names: Sequence[str], signatures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the same number for all copies of one image.

    Args:
        names: N digests of the files; equal ones are copies, even of plain images.
        signatures: (N, 80) uint8.

    Returns:
        (N,) int64: for each image the position of the first of its copies.
    """
    count = len(names)
    pairs = [*_equal_pairs(names), *_alike_pairs(names, signatures)]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    edges = coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    _, group = connected_components(edges, directed=False)
    _, first = np.unique(group, return_index=True)
    numbers: NDArray[np.int64] = first[group].astype(np.int64)
    return numbers


def _equal_pairs(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield each file and the first one that is equal to it."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        yield first.setdefault(name, row), row


def _alike_pairs(names: Sequence[str], signatures: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield pairs of different files whose images look alike."""
    hashes, colours = signatures[:, :_HASH_BYTES], signatures[:, _HASH_BYTES:].astype(np.int16)
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    rows = np.array(sorted(first.values()), dtype=np.int64)
    rows = rows[hashes[rows].any(axis=1)]
    for one, other in near_pairs(hashes[rows]):
        a, b = int(rows[one]), int(rows[other])
        if np.abs(colours[a] - colours[b]).mean() <= _DIFFERENCE:
            yield a, b


def near_pairs(hashes: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Positions of any two of (N, 32) uint8 hashes that differ in few bits of the 256.

    Those that differ in 15 bits or fewer are all found, nearly all up to 24, none beyond: of 16
    bands of 16 bits one must be equal, and only within such are hashes compared, each with no more
    than the next 1,000. So the time grows with the number of pictures and not with its square. Of
    equal hashes each is paired with the first and with the next.
    """
    if not len(hashes):
        return
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
