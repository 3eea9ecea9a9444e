"""What is installed: every extra is documented, and a container gets what a wheel is made of."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_extras__are_all_in_the_table_of_the_guide():
    guide = (ROOT / "docs/how-to/install.md").read_text("utf-8")
    cells = re.findall(r"^\| (`.*?`) \|", guide, re.MULTILINE)

    extras = [extra for cell in cells for extra in re.findall(r"`(.*?)`", cell)]
    assert sorted(extras) == sorted(PROJECT["project"]["optional-dependencies"])


def test_dockerfile__copies_what_a_wheel_is_made_of_and_the_sample_data():
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    copied = {
        name
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }

    project, build = PROJECT["project"], PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    of_wheel = {"pyproject.toml", project["readme"], *project["license-files"], *build["packages"]}
    assert copied == of_wheel | {"sample_data"}
    assert all((ROOT / name).exists() for name in copied)
