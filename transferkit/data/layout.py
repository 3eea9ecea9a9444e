"""Find the class folders of a dataset, however the folders around them are arranged.

The rules, in this order:

1. A folder is gone into while it holds nothing but one folder of folders.
2. A folder is a part of a split if its name says so (`PARTS`, in any case, with affixes as in
   `test_set`, or with words that all folders beside it share, as in `cars_train` and `cars_test`)
   and its images lie in subfolders.
3. With a training part, the subfolders of the parts are the classes. Folders beside the parts that
   hold images are refused, unless their name says that the images have no labels, or means a part
   that has no class folders.
4. Without a training part, other folders are the classes, and a part beside them belongs to them if
   it has a class of the same name.
5. Otherwise every folder is a class.

Where two readings are possible, the command asks for `--layout`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath

from transferkit.data.class_names import normalized
from transferkit.data.folders import (
    entries_of,
    has_loose_images,
    holds_folders,
    image_folders,
    real_paths_around,
    subfolders,
)
from transferkit.data.trees import Tree
from transferkit.data.walk import ALREADY_READ, SUFFIXES
from transferkit.errors import DataError, name_some
from transferkit.reporter import LeftOut


class Layout(StrEnum):
    """What the folders of a dataset are.

    `auto`: decided by names and contents. `classes`: each folder is a class. `split`: folders named
    as parts of a split hold one subfolder per class.
    """

    AUTO = "auto"
    CLASSES = "classes"
    SPLIT = "split"


PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}
"""Word in a folder's name -> part of a split."""

_AFFIXES = frozenset(
    ("set", "data", "dataset", "images", "image", "imgs", "img", "seg", "split", "part", "photos")
)
"""Words beside those of `PARTS` that do not change the meaning."""

_UNLABELLED = frozenset(("pred", "predict", "prediction", "unlabeled", "unlabelled"))

NO_IMAGES = "no images in it"

_NAMES = {"train": "classes", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class ClassFolder:
    """A folder with the images of one class.

    Attributes:
        folder: Its path.
        name: Name of the class.
        split: Part of the split that its images belong to; empty if folders do not say.
    """

    folder: PurePath
    name: str
    split: str = ""


@dataclass
class FoundLayout:
    """How a dataset's folders were understood.

    Attributes:
        root: The dataset's folder.
        tree: Where the folder is.
        shown: The folder as messages name it.
        classes: The class folders.
        described: What was understood, in phrases; empty for one folder per class.
        left_out: What lies beside the class folders.
    """

    root: PurePath
    tree: Tree
    shown: str
    classes: list[ClassFolder] = field(default_factory=list)
    described: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def add_classes(self, folders: Iterable[PurePath], split: str = "") -> None:
        """Add class folders of one part."""
        self.classes += [ClassFolder(f, normalized(f.name), split) for f in folders]


def part_named(name: str, shared: Set[str] = frozenset()) -> str:
    """Return the part of a split that a folder's name means; empty if it means none.

    Args:
        name: The folder's name.
        shared: Words of the name that do not count, because all names beside it have them.

    >>> part_named("seg_train"), part_named("Testing"), part_named("trains")
    ('train', 'test', '')
    """
    words = [word for word in _words(name) if word not in _AFFIXES | shared]
    word = re.sub(r"(?:set|data)?\d*$", "", "".join(words))
    return PARTS.get(word, "")


def parts_among(folders: Sequence[PurePath]) -> dict[PurePath, str]:
    """Return the folders whose names mean a part of a split, with that part; train comes first."""
    names = [set(_words(folder.name)) for folder in folders]
    shared = set.intersection(*names) - PARTS.keys() if len(names) > 1 else set()
    found = {folder: part_named(folder.name, shared) for folder in folders}
    order = list(_NAMES)
    named = sorted((f for f in folders if found[f]), key=lambda f: order.index(found[f]))
    return {folder: found[folder] for folder in named}


def _words(name: str) -> list[str]:
    return re.split(r"[\W_]+", name.casefold())


def find_layout(root: PurePath, tree: Tree, layout: Layout, shown: str) -> FoundLayout:
    """Find the class folders of a dataset.

    Args:
        root: The dataset's folder.
        tree: Where the folder is.
        layout: What the folders are.
        shown: The folder as messages name it.

    Raises:
        DataError: When a folder cannot be read, names a part twice, or can be read in two ways.
    """
    found = FoundLayout(root, tree, shown)
    top, folders = _unwrapped(root, found, stops_at_parts=True)
    if top != root:
        found.described.append(f"everything in {_shown(root, top)}")
    named = parts_among(folders)
    others = [f for f in folders if f not in named]
    # A part that cannot be read ends here, because nothing else would say so.
    parts = {
        f: part
        for f, part in named.items()
        if entries_of(found.tree, f) and holds_folders(found.tree, f)
    }
    flat = [f for f in named if f not in parts]
    if layout is Layout.CLASSES:
        found.add_classes(folders)
    elif layout is Layout.SPLIT:
        _read_split(found, named, [], others)
    elif parts:
        if others and (len(parts) == 1 or "train" not in parts.values()):
            _require_one_reading(found, parts, others)
        _read_split(found, parts, flat, others)
    else:
        _read_classes(found, folders, flat)
    return found


def _unwrapped(
    folder: PurePath, found: FoundLayout, *, stops_at_parts: bool = False
) -> tuple[PurePath, list[PurePath]]:
    """Go down while there is one folder of folders; return the last, and the folders in it."""
    entered = set()
    while True:
        entered.add(found.tree.real_path(folder))
        folders = _folders_with_images(folder, found)
        only = folders[0] if len(folders) == 1 else None
        if (
            only is None
            or (stops_at_parts and part_named(only.name))
            or has_loose_images(found.tree, folder)
            or not holds_folders(found.tree, only)
            or found.tree.real_path(only) in entered
        ):
            return folder, folders
        folder = only


def _read_split(
    found: FoundLayout,
    parts: Mapping[PurePath, str],
    flat: Sequence[PurePath],
    others: Sequence[PurePath],
) -> None:
    """Add the classes of each part.

    Args:
        found: Receives them.
        parts: Folder -> its part of the split, train first.
        flat: Folders named as parts that hold images and no class folders.
        others: Further folders, which are classes where no part is for training.

    Raises:
        DataError: When a part is named twice, or classes beside a training part.
    """
    if len(set(parts.values())) < len(parts) or not parts:
        what = "names a part twice" if parts else "has no part of a split"
        names = ", ".join(path.name for path in (parts or others)) or "nothing"
        raise DataError(
            f"{found.shown}: {what} ({names}); expected one folder each for train, val and test"
        )
    beside = [f for f in others if not _is_unlabelled(f)]
    unlabelled = [*flat, *(f for f in others if f not in beside)]
    if "train" in parts.values() and beside:
        raise DataError(
            f"{found.shown}: has {name_some([f.name for f in beside])} with images beside "
            f"{name_some([part.name for part in parts])}; expected only parts of a split there; "
            "move the others away, or make each folder a class with --layout classes"
        )
    found.left_out += [LeftOut(_relative(found, f), "images without labels") for f in unlabelled]
    if beside:
        found.described.append("one folder per class")
        found.add_classes(beside)
    for part, split in parts.items():
        level, folders = _unwrapped(part, found)
        found.described.append(f"{_NAMES[split]} in {_shown(found.root, level)}")
        found.add_classes(folders, split)


def _read_classes(
    found: FoundLayout, folders: Sequence[PurePath], flat: Sequence[PurePath]
) -> None:
    """Add each folder as a class, and say what else it could have been."""
    found.add_classes(folders)
    if len(flat) == len(folders) > 1:
        raise DataError(
            f"{found.shown}: its folders are named as parts of a split "
            f"({name_some([f.name for f in flat])}), but hold images and no class folders; make "
            "one subfolder per class in each, or make each folder a class with --layout classes"
        )
    if flat:
        names = name_some([f.name for f in flat])
        found.described.append(
            f"one folder per class; images lie in {names} itself, so it is no part of a split"
        )
    same = _common_subfolders(found, folders)
    if same and all(part_named(name) for name in same):
        raise DataError(
            f"{found.shown}: every class is divided into {name_some(same)}; expected the parts "
            f"outside, as in {same[0]}/{folders[0].name}; move them, or take all images of a "
            "class together with --layout classes"
        )
    if same:
        found.described.append(
            f"classes {name_some([f.name for f in folders])}, which all hold the subfolders "
            f"{name_some(same)}; if those are the classes, name the folders around them train/, "
            "val/ and test/"
        )


def _require_one_reading(
    found: FoundLayout, parts: Iterable[PurePath], others: Sequence[PurePath]
) -> None:
    """Check that parts beside other folders hold some of the same classes.

    Raises:
        DataError: When they do not, so that they may be classes themselves.
    """
    labelled = {normalized(f.name) for f in others if not _is_unlabelled(f)}
    for part in parts:
        inside = [normalized(f.name) for f in image_folders(found.tree, part)]
        if labelled and not labelled & set(inside):
            names = sorted(normalized(f.name) for f in (*parts, *others))
            raise DataError(
                f"{found.shown}: can be read in two ways: as the classes {name_some(names)}; or "
                f"with {part.name}/ as a part of a split, whose classes are {name_some(inside)}. "
                "Say which with --layout classes or --layout split"
            )


def _common_subfolders(found: FoundLayout, folders: Sequence[PurePath]) -> list[str]:
    """Return the names of the subfolders that all these folders hold, if they hold only those."""
    common: set[str] = set()
    for folder in folders:
        if has_loose_images(found.tree, folder):
            return []
        inside = {normalized(f.name) for f in image_folders(found.tree, folder)}
        if len(inside) < 2 or (common and inside != common):
            return []
        common = inside
    return sorted(common) if len(folders) > 1 else []


def _is_unlabelled(folder: PurePath) -> bool:
    return any(word in _UNLABELLED for word in _words(folder.name))


def _folders_with_images(folder: PurePath, found: FoundLayout) -> list[PurePath]:
    """Return the subfolders with images; everything else in the folder is left out."""
    inside, kept = subfolders(found.tree, folder), image_folders(found.tree, folder)
    around = real_paths_around(found.tree, folder)
    found.left_out += [
        LeftOut(_relative(found, e), _why_no_class(e))
        for e in entries_of(found.tree, folder)
        if e not in inside
    ]
    for other in inside:
        if other not in kept:
            is_around = found.tree.real_path(other) in around
            reason = ALREADY_READ if is_around else NO_IMAGES
            found.left_out.append(LeftOut(_relative(found, other), reason))
    return kept


def _why_no_class(entry: PurePath) -> str:
    if entry.name.startswith("."):
        return "hidden"
    return "not in a class folder" if entry.suffix.lower() in SUFFIXES else "not an image"


def _relative(found: FoundLayout, path: PurePath) -> str:
    return path.relative_to(found.root).as_posix()


def _shown(root: PurePath, folder: PurePath) -> str:
    return f"{folder.relative_to(root).as_posix()}/"
