"""Decisions about images of a dataset: keep an image, give it another label, or leave it out.

Nothing in the dataset is changed: every command that is given the decisions sees it as if it were.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256

from transferkit.data.class_names import describe_unknown, normalized
from transferkit.data.images import ImageError, ImageFile, read_bytes
from transferkit.data.index import ImageIndex
from transferkit.data.table_file import read_columns
from transferkit.errors import DataError, name_some
from transferkit.places import Place
from transferkit.reporter import LeftOut

_COLUMNS, _DIGEST = ("path", "action", "label"), "sha256"


class Action(StrEnum):
    """What is decided about an image."""

    KEEP = "keep"
    RELABEL = "relabel"
    EXCLUDE = "exclude"


_DONE = {Action.RELABEL: "relabelled", Action.EXCLUDE: "excluded"}


@dataclass(frozen=True)
class Decision:
    """A row of a file of decisions.

    Attributes:
        path: Path of the image as the dataset's index has it.
        action: What is decided.
        label: The new label; empty unless it gets one.
        sha256: Digest of the file that was decided about, hexadecimal; empty if it was not noted.
    """

    path: str
    action: Action
    label: str = ""
    sha256: str = ""


def decided(index: ImageIndex, file: Place) -> ImageIndex:
    """Return an index as the decisions in a file have it.

    Excluded images are in its `left_out`, and its `layout` says how many decisions there were.

    Args:
        index: The images.
        file: CSV or Parquet with the columns path, action and label, and optionally sha256.

    Raises:
        DataError: When the file cannot be read, contradicts itself, or names an image that is not
            there or has changed, or a label that no image has.
        StoreError: When the file or an image is in a store that fails.
    """
    decisions = read_decisions(file)
    rows = _rows_of(index, decisions, file)
    _require_unchanged(index, decisions, rows, file)
    labels = index.labels.copy()
    for decision, row in zip(decisions, rows, strict=True):
        if decision.action is Action.RELABEL:
            labels[row] = _position(index, decision, file)
    excluded = tuple(
        LeftOut(decision.path, f"excluded by {file.name}")
        for decision in decisions
        if decision.action is Action.EXCLUDE
    )
    counted = Counter(decision.action for decision in decisions)
    done = ", ".join(f"{counted[action]} {word}" for action, word in _DONE.items())
    described = f"{file.name}: {done}"
    layout = f"{index.layout}; {described}" if index.layout else described
    return replace(index, labels=labels, layout=layout).without(excluded)


def read_decisions(file: Place) -> tuple[Decision, ...]:
    """Return the decisions of a file, one per image.

    Raises:
        DataError: When it cannot be read, or its rows make no decisions or contradict each other.
        StoreError: When it is in a store that fails.
    """
    found: dict[str, Decision] = {}
    for number, row in enumerate(read_columns(file, lambda names: _columns(file, names)), start=1):
        decision = _decision(file, number, *row)
        if found.setdefault(decision.path, decision) != decision:
            raise DataError(f"{file}: decides twice about {decision.path}; keep one of the rows")
    return tuple(found.values())


def _columns(file: Place, names: Sequence[str]) -> Sequence[str]:
    if missing := [name for name in _COLUMNS if name not in names]:
        raise DataError(
            f"{file}: has no column {', '.join(missing)}; it has {name_some(names) or 'none'}, "
            f"expected {', '.join(_COLUMNS)}"
        )
    return (*_COLUMNS, _DIGEST) if _DIGEST in names else _COLUMNS


def _decision(
    file: Place, number: int, path: str, action: str, label: str, digest: str = ""
) -> Decision:
    """Return the decision of a row.

    Raises:
        DataError: When it is none.
    """
    if not path:
        raise DataError(f"{file}: row {number} has no path")
    known = [str(each) for each in Action]
    if action not in known:
        raise DataError(
            f"{file}: row {number} has the action {action!r}, expected {', '.join(known)}"
        )
    label = normalized(label.strip())
    if (action == Action.RELABEL) != bool(label):
        what = f"no label for {path}" if not label else f"the label {label} for {path}"
        raise DataError(
            f"{file}: row {number} has the action {action} and {what}; expected a label where the "
            "action is relabel, and nowhere else"
        )
    return Decision(path, Action(action), label, digest.strip().lower())


def _rows_of(index: ImageIndex, decisions: Sequence[Decision], file: Place) -> list[int]:
    """Return the position of each decision's image.

    Raises:
        DataError: When there is no such image.
    """
    position = {path: row for row, path in enumerate(index.paths)}
    if missing := [each.path for each in decisions if each.path not in position]:
        raise DataError(
            f"{file}: decides about images that are not in {index.root}: {name_some(missing)}; "
            "put them back, or remove these rows"
        )
    return [position[each.path] for each in decisions]


def _require_unchanged(
    index: ImageIndex, decisions: Sequence[Decision], rows: Sequence[int], file: Place
) -> None:
    """Check that images are those that were decided about, where their digests were noted.

    Raises:
        DataError: When some are others.
    """
    noted = zip(decisions, rows, strict=True)
    changed = [
        each.path for each, row in noted if each.sha256 and _digest(index.files[row]) != each.sha256
    ]
    if changed:
        raise DataError(
            f"{file}: images have changed since the decision: {name_some(changed)}; restore them, "
            "or decide again"
        )


def _digest(file: ImageFile) -> str:
    """Return the SHA-256 of an image's file; empty if it cannot be read."""
    try:
        return sha256(read_bytes(file)).hexdigest()
    except ImageError:
        return ""


def _position(index: ImageIndex, decision: Decision, file: Place) -> int:
    """Return the position of a decision's label.

    Raises:
        DataError: When no image has this label.
    """
    if decision.label not in index.class_names:
        (shown,) = describe_unknown([decision.label], index.class_names)
        raise DataError(
            f"{file}: relabels {decision.path} to a class of which {index.root} has no image: "
            f"{shown}; expected one of {name_some(index.class_names)}"
        )
    return index.class_names.index(decision.label)
