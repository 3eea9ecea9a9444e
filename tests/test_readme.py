"""README: its length, its links and its two commands."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_readme__is_short():
    assert len(README.splitlines()) <= 200


def test_readme__links_to_files_that_exist():
    links = re.findall(r"\]\(([^)#]+)", README)

    assert len(links) > 10
    assert [link for link in links if "://" not in link and not (ROOT / link).is_file()] == []


def test_readme__has_the_test_command_of_ci():
    (command,) = re.findall(r"```sh\n(.*uv run pytest)\n```", README)

    assert command in (ROOT / ".ci/run").read_text("utf-8").splitlines()


def test_readme__first_command_needs_no_download_and_says_so():
    (command,) = re.findall(r"```sh\n(.*uv run transferkit finetune sample_data.*)\n```", README)

    assert command.endswith("finetune sample_data/cats")
    assert "nothing is downloaded after that" in README
