"""A long table as a folder of Parquet files: parts in the order of the rows, and a manifest."""

import json
from collections.abc import Mapping, Set
from typing import Any

from transferkit.errors import OutputError
from transferkit.files import whole_file, write_json
from transferkit.places import Place, Url

MANIFEST, PARTS = "_manifest.json", "parts"
"""Names of the folder's contents. Readers of Parquet folders skip names that begin with `_`."""


class PartsFolder:
    """Parts of a table, each written whole or not at all.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Place) -> None:
        self._manifest, self._parts = folder / MANIFEST, folder / PARTS

    def begin(self, manifest: Mapping[str, Any], *, resume: bool) -> None:
        """Write the manifest, or check that a table that is resumed was begun with the same.

        Args:
            manifest: What the table is made of, as JSON values.
            resume: Whether to keep the parts that are there.

        Raises:
            OutputError: When it was begun with something else, or cannot be written.
        """
        wanted = json.loads(json.dumps(manifest))
        if not resume:
            write_json(self._manifest, wanted)
            return
        try:
            begun = json.loads(self._manifest.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{self._manifest}: cannot be read ({error}); leave out --resume to start"
            ) from error
        if other := [name for name, value in wanted.items() if begun.get(name) != value]:
            raise OutputError(
                f"{self._manifest}: was begun with other {', '.join(other)}; give the same, or "
                "start over with --overwrite"
            )

    def missing(self, count: int) -> list[int]:
        """Return the numbers of the parts, of 0 to `count` - 1, that are not written yet."""
        present = self._present()
        return [number for number in range(count) if self._path(number).name not in present]

    def write(self, number: int, content: bytes) -> None:
        """Write a part.

        Raises:
            OutputError: When it cannot be written.
        """
        with whole_file(self._path(number), size=len(content)) as temporary:
            temporary.write_bytes(content)

    def metadata(self, key: bytes, count: int) -> list[bytes]:
        """Return what each of the parts 0 to `count` - 1 holds under a key of its metadata."""
        import pyarrow.parquet as pq

        found = []
        for number in range(count):
            with self._path(number).open("rb") as file:
                found.append(pq.read_metadata(file).metadata[key])
        return found

    def _present(self) -> Set[str]:
        """Return the names of the parts that are written."""
        if isinstance(self._parts, Url):
            return self._parts.files().keys()
        return {path.name for path in self._parts.glob("*")}

    def _path(self, number: int) -> Place:
        return self._parts / f"part-{number:08}.parquet"
