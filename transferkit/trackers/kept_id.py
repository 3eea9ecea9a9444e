"""A tracker's id of a run, kept in the run's folder so that a resumed run is recorded under it."""

import json

from transferkit.files import write_json
from transferkit.places import Place
from transferkit.run.folder import LOGS
from transferkit.trackers import Tracker


def kept_id(folder: Place, tracker: Tracker) -> str | None:
    """Return what `keep_id` kept in a folder; None where it kept nothing.

    Raises:
        OSError: When it cannot be read.
        ValueError: When it is damaged.
        KeyError: When it is damaged.
    """
    path = _path(folder, tracker)
    return str(json.loads(path.read_text("utf-8"))["id"]) if path.is_file() else None


def keep_id(folder: Place, tracker: Tracker, run_id: str) -> None:
    """Keep a tracker's id of a run, or of a comparison, in its folder.

    Raises:
        OutputError: When it cannot be written.
    """
    write_json(_path(folder, tracker), {"id": run_id})


def _path(folder: Place, tracker: Tracker) -> Place:
    return folder / LOGS / f"{tracker}.json"
