"""What becomes of images that cannot be read; needs no other library to be imported."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from transferkit.errors import DataError, name_some
from transferkit.reporting import LeftOut


class OnBadImage(StrEnum):
    """Whether images that cannot be read are left out and named, or end the command."""

    SKIP = "skip"
    FAIL = "fail"


def require_allowed(root: Path, left_out: Iterable[LeftOut], on_bad_image: OnBadImage) -> None:
    """Check that no image was left out that must not be.

    Raises:
        DataError: When `fail` is wanted and some images cannot be read.
    """
    bad = [f"{item.path} ({item.reason})" for item in left_out if item.unreadable]
    if bad and on_bad_image is OnBadImage.FAIL:
        raise DataError(
            f"{root}: {len(bad)} images cannot be used: {name_some(bad)}; mend or remove them, or "
            "leave them out with --on-bad-image skip"
        )
