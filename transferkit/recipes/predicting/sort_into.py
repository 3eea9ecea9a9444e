"""Sort images into a folder per class, by their predictions.

An image that was sorted is not sorted again: neither one that the log lists, nor one in a folder of
sorted images. So the same command goes on where another one ended, in whatever way.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath

from transferkit.data.class_names import folder_names
from transferkit.data.delivery import deliver, require_deliverable, settle
from transferkit.data.images import ImageError, StoredImage
from transferkit.errors import OutputError, StoreError
from transferkit.places import Url, is_url
from transferkit.run.folder import locked
from transferkit.tables.predictions import Prediction
from transferkit.tables.sort_log import (
    NAME,
    STAYS,
    UNREADABLE,
    UNSURE,
    By,
    SortedImage,
    SortLog,
    opened_log,
)

_LONGEST_NAME = 255
"""Bytes of a file's name, on most systems."""


@dataclass(frozen=True)
class Source:
    """An image to sort.

    Attributes:
        given: The image as it was given.
        file: The image as a file.
        path: Its full path, which tells it from all others, or its address.
    """

    given: str | StoredImage
    file: Path | StoredImage
    path: str

    @property
    def name(self) -> str:
        """Its file name."""
        return PurePosixPath(self.path).name if self.is_stored else os.path.basename(self.path)

    @property
    def is_stored(self) -> bool:
        """Whether it is in a store or in an archive."""
        return isinstance(self.file, StoredImage)

    @property
    def is_there(self) -> bool:
        """Whether there is a file, as far as that is known without asking a store."""
        return self.is_stored or os.path.isfile(self.path)


def find_sources(images: Iterable[str | StoredImage]) -> list[Source]:
    """Return the images with their full paths."""
    # Most images share a folder with others.
    real_path = cache(_real_path)

    def source(given: str | StoredImage) -> Source:
        if isinstance(given, StoredImage):
            if isinstance(given.place, Url):
                return Source(given, given, str(given))
            return Source(given, given, f"{real_path(str(given.place))}/{given.name}")
        if is_url(given):
            return Source(given, StoredImage(Url(given)), given)
        folder, name = os.path.split(given)
        path = os.path.join(real_path(folder), name)
        return Source(given, Path(path), path)

    return [source(given) for given in images]


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:
        return path  # it holds a null byte


@dataclass
class Sorting:
    """The folder that images are sorted into.

    Attributes:
        folder: The folder.
        by: How images get into the folders in it.
        log: What was sorted.
    """

    folder: Path
    by: By
    log: SortLog
    _real_folder: str = field(init=False)
    _folders_before: frozenset[str] = field(init=False)
    _numbers: dict[Path, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._settle_begun()
        self._real_folder = os.path.realpath(self.folder)
        listed = self.log.images.values()
        self._folders_before = frozenset(image.folder for image in listed if image.file)

    def is_listed(self, source: Source) -> bool:
        """Return whether an image was put into its folder before."""
        listed = self.log.images.get(source.path)
        return listed is not None and listed.file != ""

    def without_sorted(self, sources: Iterable[Source]) -> list[Source]:
        """Return the images that are not in the folders of sorted images."""
        return [source for source in sources if not self._is_inside(source)]

    def unsorted(self, sources: Iterable[Source]) -> list[Source]:
        """Return the images that were not sorted yet, each once.

        Raises:
            OptionError: When one cannot be linked or moved.
        """
        found: dict[str, Source] = {}
        for source in sources:
            if not self.is_listed(source):
                require_deliverable(source.file, self.by)
                found.setdefault(source.path, source)
        return list(found.values())

    def sort(
        self,
        sources: Sequence[Source],
        predictions: Iterable[Prediction],
        class_names: Iterable[str],
    ) -> Iterator[Prediction]:
        """Sort images as their predictions come, and pass the predictions on.

        Args:
            sources: N images; those that were sorted already are only passed on.
            predictions: Their N predictions.
            class_names: Names of all classes, which become folders.

        Raises:
            OutputError: When an image cannot be put into its folder; it is where it was.
            StoreError: When an image is in a store that fails.
        """
        folders = folder_names(class_names, (UNSURE, UNREADABLE, NAME))
        for source, prediction in zip(sources, predictions, strict=True):
            if not self.is_listed(source):
                with self._told(source.path):
                    self._sort_one(source, _decision(source, prediction, folders))
            yield prediction

    def _is_inside(self, source: Source) -> bool:
        above, folder = os.path.split(os.path.dirname(source.path))
        return above == self._real_folder and folder in self._folders_before

    def _settle_begun(self) -> None:
        """Finish what a process that was killed has begun."""
        begun = self.log.begun
        if begun is None:
            return
        with self._told(begun.path):
            path = self.folder / begun.folder / begun.file
            if begun.action == STAYS or settle(Path(begun.path), path, By(begun.action)):
                self.log.end()
            else:
                self.log.abandon()

    def _sort_one(self, source: Source, decided: SortedImage) -> None:
        folder = self.folder / decided.folder
        if not source.is_there:
            self._leave(decided)
        elif os.path.dirname(source.path) == os.path.join(self._real_folder, decided.folder):
            self._leave(replace(decided, file=source.name, reason="it was there already"))
        else:
            folder.mkdir(exist_ok=True)
            while not self._is_put(source, decided, self._free_path(folder, source.name)):
                pass  # somebody has put another file there at this moment

    def _is_put(self, source: Source, decided: SortedImage, path: Path) -> bool:
        """Put an image at a path; return False if something is there."""
        self.log.begin(replace(decided, file=path.name, action=self.by))
        try:
            deliver(source.file, path, self.by)
        except FileExistsError:
            self.log.abandon()
            return False
        except ImageError as error:
            self.log.abandon()
            self._leave(replace(decided, folder=UNREADABLE, reason=str(error)))
            return True
        except (OSError, StoreError):
            self.log.abandon()
            raise
        self.log.end()
        return True

    def _leave(self, decided: SortedImage) -> None:
        if self.log.images.get(decided.path) != decided:
            self.log.begin(decided)
            self.log.end()

    def _free_path(self, folder: Path, name: str) -> Path:
        """Return a path where nothing is, for a file of some name: NAME.jpg, NAME-2.jpg ..."""
        while True:
            number = self._numbers[folder / name] = self._numbers.get(folder / name, 0) + 1
            path = folder / _numbered(name, number)
            if not os.path.lexists(path):
                return path

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Raise OSErrors in the block as OutputError."""
        try:
            yield
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            advice = (
                "use --by copy where there can be no links"
                if self.by is By.LINK
                else "make room or change permissions"
            )
            raise OutputError(
                f"cannot {self.by} {path} into {self.folder}: {reason}; it is where it was; "
                f"{advice}, and run the same command again for what is left"
            ) from error


@contextmanager
def opened_sorting(folder: Path, by: By) -> Iterator[Sorting]:
    """Yield the folder to sort into, created if necessary; other processes are kept out.

    Raises:
        OutputError: When it cannot be created or written to, or another process writes there.
    """
    with locked(folder, "--sort-into"), opened_log(folder) as log:
        yield Sorting(folder, by, log)


def _decision(source: Source, prediction: Prediction, folders: dict[str, str]) -> SortedImage:
    """Return the line of an image that is not in its folder yet."""
    if prediction.error is not None:
        folder, reason = UNREADABLE, prediction.error
    elif not source.is_there:
        folder, reason = UNREADABLE, "it is not there any more"
    elif prediction.label is None:
        folder, reason = UNSURE, "its confidence is too low"
    else:
        folder, reason = folders[prediction.label], ""
    return SortedImage(source.path, folder, "", prediction.confidence, STAYS, reason)


def _numbered(name: str, number: int) -> str:
    """Return a file's name with a number from 2 on, cut to the length that systems take.

    >>> _numbered("cat.jpg", 1), _numbered("cat.jpg", 2)
    ('cat.jpg', 'cat-2.jpg')
    """
    stem, suffix = os.path.splitext(name)
    ending = os.fsencode(suffix if number == 1 else f"-{number}{suffix}")
    return os.fsdecode(os.fsencode(stem)[: _LONGEST_NAME - len(ending)] + ending)
