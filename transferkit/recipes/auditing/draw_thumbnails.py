"""Draw the images that the page of an audit shows, as many as it has room for."""

from collections.abc import Mapping, Sequence

from transferkit.data.dataset import Dataset
from transferkit.data.threads import map_in_order
from transferkit.report.evidence import RecordedImages
from transferkit.report.thumbnails import thumbnail
from transferkit.reporter import Reporter

_LARGE, _SMALL = 256, 144
"""Pixels of the longer side, for a few images and for many."""

_FEW = 600
"""Up to this many images are drawn large."""

_ROOM = 8_000_000
"""Characters of all thumbnails together; a page of 15 MB still opens at once."""


def draw_thumbnails(
    dataset: Dataset,
    paths: Sequence[str],
    *,
    workers: int,
    allow_truncated: bool,
    reporter: Reporter,
) -> Mapping[str, str]:
    """Return path -> thumbnail as a `data:` address, of the first images that fit into the page.

    Images that cannot be read any more, or have changed since they were checked, have none.

    Args:
        dataset: The images.
        paths: Paths of the images that are wanted, the most important first.
        workers: Number of threads that decode images.
        allow_truncated: Whether to read JPEGs whose end is missing.
        reporter: Receives the progress.
    """
    index = dataset.index
    files = dict(zip(index.paths, index.files, strict=True))
    recorded = RecordedImages(dict(zip(index.paths, dataset.sha256, strict=True)), allow_truncated)
    side = _LARGE if len(paths) <= _FEW else _SMALL

    def draw(path: str) -> str:
        image = recorded.read(path, files[path])
        return "" if image is None else thumbnail(image, side)

    drawn: dict[str, str] = {}
    room = _ROOM
    with reporter.progress("drawing thumbnails", len(paths)) as progress:
        addresses = map_in_order(draw, paths, workers=workers, ahead=2 * workers)
        for path, address in zip(paths, addresses, strict=False):
            progress.advance(1)
            room -= len(address)
            if room < 0:
                break
            if address:
                drawn[path] = address
    return drawn
