"""Download weights files once: from the Hugging Face hub, or from a URL."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from transferkit.errors import WeightsError
from transferkit.files import file_digest

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in a repository, the first that it has."""


def hub_file(repository: str, filenames: Sequence[str], *, advice: Callable[[], str]) -> Path:
    """Return a file of a model repository on the Hugging Face hub, downloaded if necessary.

    Args:
        repository: `owner/name`, or `owner/name@revision`.
        filenames: Names to look for; the first that the repository has is returned.
        advice: Called if the hub cannot be reached; says in the message what to do.

    Raises:
        WeightsError: When the hub cannot be reached, has no such file, or sends a damaged one.
    """
    name, _, revision = repository.partition("@")
    place: dict[str, Any] = {"repo_id": name, "revision": revision or None}
    for filename in filenames:
        try:
            return _verified(
                Path(hf_hub_download(filename=filename, local_files_only=True, **place))
            )
        except LocalEntryNotFoundError:
            continue
    _require_hub(name, advice)
    for filename in filenames:
        try:
            return _verified(Path(hf_hub_download(filename=filename, **place)))
        except EntryNotFoundError:
            continue
        except WeightsError:
            raise
        except Exception as error:
            # The client raises errors of several libraries, and which ones depends on its version.
            raise WeightsError(
                f"cannot download {filename} of {name} from {constants.ENDPOINT}: "
                f"{_one_line(error)}; {advice()}"
            ) from error
    raise WeightsError(f"{name} on {constants.ENDPOINT} has none of {', '.join(filenames)}")


def _require_hub(name: str, advice: Callable[[], str]) -> None:
    # The client retries for half a minute before it gives up; one request is enough.
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:
        raise WeightsError(
            f"cannot reach the model hub {constants.ENDPOINT} to download {name} "
            f"({_one_line(error)}); {advice()}"
        ) from error


def _verified(path: Path) -> Path:
    # The hub's cache names each large file after the SHA-256 that the hub announced for it.
    blob = path.resolve()
    if len(blob.name) == 64 and file_digest(blob) != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise WeightsError(
            f"{path.name}: the downloaded file is damaged, its SHA-256 is not the announced "
            f"{blob.name}; it was removed, run again to download it"
        )
    return path


def url_file(url: str, *, advice: Callable[[], str]) -> Path:
    """Return the weights file at a URL, downloaded unless torch's cache has it.

    A digest in the file's name, as in resnet18-f37072fd.pth, is checked after the download.

    Raises:
        WeightsError: When the file cannot be downloaded or is damaged.
    """
    name = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if path.is_file():
        return path
    digest = torch.hub.HASH_REGEX.search(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(path), digest.group(1) if digest else None, progress=False
        )
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"cannot download {url} ({_one_line(error)}); {advice()}") from error
    return path


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
