"""The shell completes commands, options and their values, by the script that the command prints."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
eval "$(transferkit --show-completion bash)"
complete -p transferkit
for line in "fin" "finetune --strat" "finetune --strategy g" "audit --on-bad-image f"; do
    COMP_WORDS=(transferkit $line)
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _transferkit_completion transferkit
    echo "$line: ${COMPREPLY[*]}"
done
"""


def test_bash__completes_commands_options_and_values(monkeypatch):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    ran = subprocess.run([bash, "-c", SCRIPT], capture_output=True, text=True, timeout=120)

    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "complete -o default -F _transferkit_completion transferkit",
        "fin: finetune",
        "finetune --strat: --strategy",
        "finetune --strategy g: gradual",
        "audit --on-bad-image f: fail",
    ]
