"""Put an image file at a new path, as a link, as a copy or by moving it. Nothing is ever replaced.

Whenever the process is killed, the image is whole at its old path, at the new one, or at both;
`settle` then finishes what was begun.
"""

import errno
import filecmp
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from transferkit.data.images import ImageError, StoredImage, read_bytes
from transferkit.errors import OptionError
from transferkit.tables.sort_log import By

UNFINISHED = ".transferkit-unfinished"
"""Name of a copy that is being written, in the folder of the finished one."""


def require_deliverable(image: Path | StoredImage, by: By) -> None:
    """Check that an image can be linked, copied or moved.

    Raises:
        OptionError: When it is in a store or in an archive, which can only be copied, or when it is
            a link that is to be moved.
    """
    if by is By.COPY:
        return
    if isinstance(image, StoredImage):
        raise OptionError(
            f"--by {by}: {image} is in a store or an archive, whose images can only be copied; use "
            "--by copy"
        )
    if by is By.MOVE and os.path.islink(image):
        raise OptionError(
            f"--by move: {image} is a link, and a moved link may lead nowhere; use --by link or "
            "--by copy"
        )


def deliver(image: Path | StoredImage, path: Path, by: By) -> None:
    """Put an image at a path where nothing is.

    Raises:
        FileExistsError: When something is at the path.
        ImageError: When the image cannot be read for a copy.
        OSError: When it cannot be put there; it is where it was.
        StoreError: When it is in a store that fails.
    """
    if by is By.COPY:
        _copy(image, path)
        return
    assert isinstance(image, Path), "checked by require_deliverable"
    if by is By.LINK:
        path.symlink_to(_link_target(image, path))
    else:
        _move(image, path)


def settle(image: Path, path: Path, by: By) -> bool:
    """Finish a delivery during which the process was perhaps killed; return whether it is done.

    Args:
        image: Where the image was; of no concern for links and copies.
        path: Where it was to be.
        by: How it was to get there.
    """
    path.with_name(UNFINISHED).unlink(missing_ok=True)
    if not os.path.lexists(path):
        return False
    if by is By.MOVE and image.is_file():
        # Either the image has two names now, or somebody has put another file there.
        if not (path.is_file() and filecmp.cmp(image, path, shallow=False)):
            return False
        image.unlink()
    return True


def _link_target(image: Path, path: Path) -> str:
    """Return the image as seen from the link's folder, or its full path on another drive."""
    real = os.path.realpath(image)
    try:
        return os.path.relpath(real, os.path.realpath(path.parent))
    except ValueError:
        return real


def _copy(image: Path | StoredImage, path: Path) -> None:
    if isinstance(image, StoredImage):
        content = read_bytes(image)
        _place(path, lambda temporary: temporary.write_bytes(content))
        return
    if not os.access(image, os.R_OK):
        raise ImageError("permission denied")
    _place(path, lambda temporary: shutil.copy2(image, temporary))


def _move(image: Path, path: Path) -> None:
    try:
        _rename(image, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # On another device. The copy is whole and on the disk before the image is removed.
        _copy(image, path)
        _remove(image, other=path)


def _place(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, flush it to the device, and then rename it."""
    temporary = path.with_name(UNFINISHED)
    temporary.unlink(missing_ok=True)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        _rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _rename(file: Path, path: Path) -> None:
    """Rename a file to a path on the same device, where nothing is.

    Raises:
        FileExistsError: When something is there.
        OSError: When it cannot be renamed, for example because the path is on another device.
    """
    try:
        # Unlike renaming, this fails if something is there, in one step.
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise
        _rename_without_links(file, path)
    else:
        _remove(file, other=path)


def _rename_without_links(file: Path, path: Path) -> None:
    """Rename a file where the system knows no second names, as on memory cards."""
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    file.rename(path)


def _remove(file: Path, *, other: Path) -> None:
    """Remove a file that is also at another path; where that fails, remove the other."""
    try:
        file.unlink()
    except OSError:
        other.unlink()
        raise
