"""Find copies of one image: the same file again, re-encoded, or in another size.

A signature of 80 bytes records what an image looks like: a perceptual hash of its brightness and a
few colours. Two images are copies when both parts of their signatures are close.
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
"""Length of the shorter side, in pixels, that a signature is computed from."""

_HASH_SIDE, _HASH_BYTES = 16, 32
_COLOUR_SIDE = 4
SIGNATURE_BYTES = _HASH_BYTES + 3 * _COLOUR_SIDE**2

_DISTANCE = 24
"""Largest number of differing bits, of 256. Among 1,596 photographs, copies made by compressing and
scaling differed in at most 22 bits. No two other photographs differed in fewer than 82, except two
crops of one image."""
_DIFFERENCE = 12.0
"""Largest mean difference of the colours, of 255."""
_PLAIN = 1.0
"""Standard deviation of the pixels, of 255, below which an image is plain."""
_MOST_COMPARED = 1000
"""Largest number of hashes in a band that one hash is compared with."""


def signature(image: Image.Image) -> NDArray[np.uint8]:
    """Return a signature that hardly changes when the image is re-encoded or scaled.

    The first 32 bytes say which of 256 low frequencies of the discrete cosine transform are above
    their median (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010);
    they are all zero for a plain image. The other 48 bytes are the mean colours of a 4 x 4 grid.

    Returns:
        (80,) uint8.
    """
    image = image.convert("RGB")
    colours = image.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    seen = np.asarray(image.resize((NEEDED, NEEDED), Image.Resampling.BOX), dtype=np.float32)
    bits = np.zeros(_HASH_BYTES, dtype=np.uint8)
    if seen.std(axis=(0, 1)).max() >= _PLAIN:
        bits = np.packbits(imagehash.phash(image, hash_size=_HASH_SIDE).hash)
    return np.concatenate([bits, np.asarray(colours).ravel()])


def number_copies(names: Sequence[str], signatures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number images so that all copies of one image have the same number.

    Args:
        names: N digests of the files; equal files are copies even if the image is plain.
        signatures: (N, 80) uint8.

    Returns:
        (N,) int64: for each image, the position of its first copy.
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
    """Yield the position of each file with that of the first file equal to it."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        yield first.setdefault(name, row), row


def _alike_pairs(names: Sequence[str], signatures: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield positions of different files whose images look alike."""
    hashes, colours = signatures[:, :_HASH_BYTES], signatures[:, _HASH_BYTES:].astype(np.int16)
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    rows = np.array(sorted(first.values()), dtype=np.int64)
    rows = rows[hashes[rows].any(axis=1)]
    for one, other in near_pairs(hashes[rows]):
        a, b = int(rows[one]), int(rows[other])
        if np.abs(colours[a] - colours[b]).mean() <= _DIFFERENCE:
            yield a, b


def near_pairs(hashes: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield positions of two hashes that differ in few of their 256 bits.

    All pairs that differ in at most 15 bits are found, nearly all up to 24, and none beyond. Hashes
    are divided into 16 bands of 16 bits, and two hashes are compared only if they share a band,
    each with at most the next 1,000. The time thus grows with the number of images and not with its
    square. Among equal hashes, each is paired with the first and with the next one only.

    Args:
        hashes: (N, 32) uint8.
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
    """Yield the names of close hashes; the hashes must be distinct and sorted."""
    words = np.ascontiguousarray(hashes).view(np.uint64)
    for band in words.view(np.uint16).T:
        # A stable sort keeps hashes that are close overall side by side within a band.
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order].astype(np.int64), prepend=-1))
        for a, b in _pairs_within(order, np.append(starts, len(order))):
            near = np.bitwise_count(words[a] ^ words[b]).sum(axis=1) <= _DISTANCE
            for one, other in zip(a[near].tolist(), b[near].tolist(), strict=True):
                yield int(names[one]), int(names[other])


def _pairs_within(
    order: NDArray[np.int64], edges: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield all pairs within each part of `order` between two edges, many at a time."""
    sizes = np.diff(edges)
    # How many positions follow each position within its part.
    rest = np.repeat(edges[1:], sizes) - np.arange(len(order)) - 1
    for step in range(1, min(_MOST_COMPARED, int(rest.max(initial=0))) + 1):
        left = np.flatnonzero(rest >= step)
        yield (
            np.minimum(order[left], order[left + step]),
            np.maximum(order[left], order[left + step]),
        )
