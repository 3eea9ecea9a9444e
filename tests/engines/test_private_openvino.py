"""OpenVINO reports nothing: no address is looked up, and nothing is written to the home folder."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import socket
def looked_up(*address, **_):
    print("looked up", *address, flush=True)
    raise OSError
socket.getaddrinfo = looked_up
{imports}
openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
"""
"""Python ends once the threads of the report have done their work."""

OURS = """
from transferkit.engines.private_openvino import import_openvino
openvino = import_openvino()
"""


def left_behind(imports: str, home: Path) -> set[str]:
    """Return what a program that imports OpenVINO prints and leaves in its home folder."""
    home.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(imports=imports)],
        env={"HOME": str(home), "USERPROFILE": str(home), "PATH": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {*ran.stdout.splitlines(), *(path.name for path in home.rglob("*"))}


def test_import_openvino__reports_nothing(tmp_path):
    assert left_behind(OURS, tmp_path / "ours") == set()


def test_import_openvino__leaves_a_program_its_own_modules():
    before = dict.fromkeys(sys.modules)
    from transferkit.engines.private_openvino import import_openvino

    assert import_openvino().__name__ == "openvino"
    assert "openvino_telemetry" not in sys.modules or "openvino_telemetry" in before


def test_plain_import__does_report(tmp_path):
    """Else the first test would pass by itself."""
    assert left_behind("import openvino", tmp_path / "plain") != set()
