"""Upload the folder of a model to a model hub, with a card that describes it."""

from dataclasses import dataclass
from pathlib import Path

from transferkit.bundle import ModelBundle
from transferkit.errors import OutputError
from transferkit.models import HUB_PREFIX
from transferkit.report.model_card import CARD, model_card
from transferkit.run.model_folder import model_folder
from transferkit.run.record import read_run


@dataclass(frozen=True)
class Uploaded:
    """The result of an upload.

    Attributes:
        address: The model's name for `--model`, `hf-hub:OWNER/NAME`.
        url: The commit, as a browser shows it.
        size: Bytes of all files.
    """

    address: str
    url: str
    size: int


def upload(run: Path, address: str, *, private: bool, replace: bool) -> Uploaded:
    """Upload a run's model.

    The card names the repository, so it is written anew for it. The hub's own client finds the
    user's token, and the hub's address in `HF_ENDPOINT`.

    Args:
        run: The run, or its model's folder.
        address: `hf-hub:OWNER/NAME`.
        private: Whether only its owner sees the repository.
        replace: Whether the repository may exist.

    Raises:
        BundleError: When the run is not finished or damaged.
        OutputError: When the repository exists, or the hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    home = model_folder(run)
    repository = address.removeprefix(HUB_PREFIX)
    record = read_run(home.parent)
    card = model_card(record, ModelBundle.load(home), repository).encode()
    files = [path for path in sorted(home.iterdir()) if path.is_file() and path.name != CARD]
    additions = [
        CommitOperationAdd(CARD, card),
        *(CommitOperationAdd(path.name, path) for path in files),
    ]
    hub = HfApi(library_name="transferkit")
    try:
        hub.create_repo(repository, private=private or None, exist_ok=replace)
        commit = hub.create_commit(
            repository, additions, commit_message="Upload the model by transferkit"
        )
    except Exception as error:
        # The client raises errors of several libraries, and which ones depends on its version.
        raise OutputError(_explain(error, repository, hub.endpoint)) from error
    size = len(card) + sum(path.stat().st_size for path in files)
    return Uploaded(address, commit.commit_url, size)


def _explain(error: Exception, repository: str, endpoint: str) -> str:
    """Say why an upload failed, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    match status:
        case 401 | 403:
            return (
                f"{repository}: {endpoint} does not let you write there; log in with "
                "`hf auth login`, or set HF_TOKEN to a token that may write"
            )
        case 409:
            return (
                f"{repository}: exists on {endpoint}; name another one, or add files to it with "
                "--overwrite"
            )
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{repository}: cannot be uploaded to {endpoint}: {reason}"
