"""What to do about unreadable images; imports no other library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from transferkit.errors import DataError, name_some
from transferkit.places import Place
from transferkit.reporter import LeftOut

if TYPE_CHECKING:
    from transferkit.data.dataset import Dataset
    from transferkit.data.index import ImageIndex


class OnBadImage(StrEnum):
    """Whether unreadable images are left out and reported, or end the command."""

    SKIP = "skip"
    FAIL = "fail"


def require_allowed(root: Place, left_out: Iterable[LeftOut], on_bad_image: OnBadImage) -> None:
    """Check that no unreadable image was left out if that is not allowed.

    Raises:
        DataError: When `on_bad_image` is `fail` and some images cannot be read.
    """
    bad = [f"{item.path} ({item.reason})" for item in left_out if item.unreadable]
    if bad and on_bad_image is OnBadImage.FAIL:
        raise DataError(
            f"{root}: {len(bad)} images cannot be used: {name_some(bad)}; repair or remove them, "
            "or leave them out with --on-bad-image skip"
        )


def readable_part(
    index: ImageIndex, reasons: Mapping[int, str], on_bad_image: OnBadImage
) -> ImageIndex:
    """Return the readable images of an index; the others are in its `left_out`.

    Args:
        index: The images.
        reasons: Position -> reason, for each image that could not be read.
        on_bad_image: What to do about those.

    Raises:
        DataError: When no image could be read, or `on_bad_image` is `fail` and one could not.
    """
    if len(reasons) == len(index):
        named = name_some([f"{index.paths[row]} ({why})" for row, why in reasons.items()])
        raise DataError(f"{index.root}: none of its {len(index)} images can be used: {named}")
    unreadable = (LeftOut(index.paths[row], why, unreadable=True) for row, why in reasons.items())
    readable = index.without(tuple(unreadable))
    require_allowed(index.root, readable.left_out, on_bad_image)
    return readable


def require_all_readable(dataset: Dataset, failures: Iterable[tuple[int, str]]) -> None:
    """Check that every image of a checked dataset could still be read.

    Args:
        dataset: The dataset; all its images were read when it was checked.
        failures: (position in the index, reason) of the images that can no longer be read.

    Raises:
        DataError: When there are any, because the dataset has changed since.
    """
    unreadable = [f"{dataset.index.paths[row]} ({reason})" for row, reason in failures]
    if unreadable:
        raise DataError(
            f"{dataset.index.root}: images changed during the run: {name_some(unreadable)}; "
            "leave the dataset alone while the command runs, and run it again"
        )
