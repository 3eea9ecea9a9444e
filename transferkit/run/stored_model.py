"""A model in a store, downloaded to the cache once. Imports no torch."""

import os
from collections.abc import Mapping
from pathlib import Path

from transferkit.errors import BundleError
from transferkit.files import whole_file, write_json
from transferkit.places import StoredFile, Url, is_url
from transferkit.row_cache import ABOUT, cache_folder, entry_key
from transferkit.run.folder import MODEL, SPLIT
from transferkit.run.model_folder import CONFIG, EXPORTED


def local_model(model: str) -> str:
    """Return a model as `--model` names it; the address of one becomes the path of its download.

    It is a new download whenever the files in the store are others.

    Raises:
        BundleError: When there is no model at the address.
        StoreError: When the store fails.
    """
    if not is_url(model):
        return model
    url = Url(model)
    is_exported = url.suffix == Path(EXPORTED).suffix
    root, files = (url.parent, _one_file(url)) if is_exported else (url, _files_of_model(url))
    about = {
        "what": f"the model {url}",
        "files": {name: [file.size, file.state] for name, file in files.items()},
    }
    folder = cache_folder() / entry_key(about)
    _download(root, files, folder)
    if (folder / ABOUT).is_file():
        os.utime(folder / ABOUT)  # entries are removed by their time of last use
    else:
        write_json(folder / ABOUT, about)
    return str(folder / url.name if is_exported else folder)


def _download(root: Url, files: Mapping[str, StoredFile], folder: Path) -> None:
    """Copy the files that a folder lacks, and those of which the store tells no state."""
    for name, file in files.items():
        if not file.state or not (folder / name).is_file():
            with whole_file(folder / name, size=file.size or 0) as temporary:
                temporary.write_bytes((root / name).read_bytes())


def _one_file(url: Url) -> Mapping[str, StoredFile]:
    if not url.is_file():
        raise BundleError(f"{url}: no such file; expected an exported model")
    return {url.name: StoredFile(None, url.state())}


def _files_of_model(url: Url) -> Mapping[str, StoredFile]:
    """Return the files of a run that prediction and evaluation need, or those of a model's folder.

    Raises:
        BundleError: When there is no model.
    """
    files = url.files()
    if f"{MODEL}/{CONFIG}" in files:
        return {
            name: file
            for name, file in files.items()
            if name.startswith(f"{MODEL}/") or name == SPLIT
        }
    if CONFIG not in files:
        raise BundleError(
            f"{url}: no model there; expected the address of a run, or of its {MODEL}/ folder"
        )
    return {name: file for name, file in files.items() if "/" not in name}
