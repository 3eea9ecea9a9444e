"""README's commands do what README says, on the sample data."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_readme__tour_runs_from_end_to_end(cli, tmp_path, monkeypatch, capsys):
    """Every line after a $ runs in order, here on fewer epochs; then the lines of Python."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line[:2] == "$ "]
    assert len(lines) >= 6

    for line in lines:
        program, *words = shlex.split(re.sub(r"--epochs \d+", "--epochs 2", line))
        ran = cli(*words)
        assert program == "transferkit"
        assert ran.code == 0, f"{line}: {ran.err}"

    fitting, transforming = (
        b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "sklearn" in b
    )
    names: dict[str, object] = {}
    exec(fitting, names)
    exec(transforming, names)
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0.3
    assert names["pipeline"].steps[0][0] == "backbonefeatures"


def test_readme__ci_calls_its_test_command_as_it_stands():
    (command,) = re.findall(r"```sh\n(.*uv run pytest)\n```", README)

    assert command in (ROOT / ".ci/run").read_text("utf-8").splitlines()


def test_readme__first_command_needs_no_download_and_says_so():
    (command,) = re.findall(r"```sh\n(.*uv run transferkit finetune sample_data.*)\n```", README)

    assert command.endswith("finetune sample_data/cats -b nano")
    assert "pictures made by formula" in README
