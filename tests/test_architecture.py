"""The rules of the house, as tests: layers, quick start, one definition an option, true docs."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import typer.main

import transferkit
from transferkit.cli import app
from transferkit.models.phases import Strategy
from transferkit.options import commands as option_classes
from transferkit.options.compare import CompareOptions
from transferkit.options.declaration import Options, flag_of
from transferkit.options.finetune import FinetuneOptions

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "transferkit"
HEAVY = (
    *("torch", "torchvision", "timm", "sklearn", "numpy", "pyarrow", "matplotlib", "captum"),
    "jinja2",
)

LAYERS = [
    {"errors", "reporting", "files", "devices", "interruption", "memory", "startup"},
    {"row_cache", "classifiers", "data", "models", "metrics", "intervals", "tables"},
    {"training", "inference", "frozen", "bundle", "attribution", "report", "run"},
    {"options"},
    {"recipes"},
    {"api", "cli", "sklearn"},
]
"""Bottom to top: a module imports from its own layer or those below."""


def layer_of(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def imports(path: Path) -> set[str]:
    """First names below the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("transferkit.")}
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name[:2] != "__")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    upwards = {name for name in imports(path) if layer_of(name) > layer_of(own)}

    assert upwards == set()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_only_the_command_line_prints_exits_or_knows_rich_and_typer(path):
    if path.is_relative_to(PACKAGE / "cli"):
        return
    tree = ast.parse(path.read_text("utf-8"))
    calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}

    assert not calls & {"print", "exit", "sys.exit", "input"}
    assert not any((m or "").split(".")[0] in ("rich", "typer") for m in modules)


def test_parts_never_see_an_options_object():
    below = [p for p in FILES if layer_of(p.relative_to(PACKAGE).parts[0].removesuffix(".py")) < 3]

    assert len(below) > 20
    assert not [p for p in below if re.search(r"\w+Options\b", p.read_text("utf-8"))]


@pytest.mark.parametrize("words", [["--help"], ["finetune", "--help"], ["--version"]])
def test_help__loads_nothing_heavy(words):
    program = (
        "import sys; from transferkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)

    assert ran.stderr.strip() == "[]"
    assert ran.stdout


def test_python_m__is_the_command_line():
    ran = subprocess.run(
        [sys.executable, "-m", "transferkit", "--version"], capture_output=True, text=True
    )

    assert ran.stdout == f"transferkit {transferkit.__version__}\n"


def test_all__is_sorted_and_can_be_had():
    assert transferkit.__all__ == sorted(transferkit.__all__)
    assert all(getattr(transferkit, name).__doc__ for name in transferkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = transferkit.nonsense


COMMANDS = {
    "finetune": FinetuneOptions,
    "extract-features": option_classes.ExtractFeaturesOptions,
    "predict": option_classes.PredictOptions,
    "evaluate": option_classes.EvaluateOptions,
    "explain": option_classes.ExplainOptions,
    "report": option_classes.ReportOptions,
    "compare": CompareOptions,
    "backbones": option_classes.BackbonesOptions,
    "inspect": option_classes.InspectOptions,
    "cache": option_classes.CacheOptions,
}


def test_commands__are_all_known_here():
    assert set(typer.main.get_command(app).commands) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_options__command_line_and_class_are_the_same(name):
    command = typer.main.get_command(app).commands[name]
    parameters = {p.name: p for p in command.params if p.name not in ("help", "quiet")}
    declared = {entry.name: entry for entry in fields(COMMANDS[name])}

    assert set(parameters) == set(declared)
    for key, entry in declared.items():
        assert entry.metadata["help"].endswith("."), key
        if not entry.metadata["argument"]:
            assert flag_of(entry) in (*parameters[key].opts, *parameters[key].secondary_opts)


@pytest.mark.parametrize("name", COMMANDS)
def test_readme__mentions_every_command_and_option(name):
    readme = (ROOT / "README.md").read_text("utf-8")
    missing = [
        flag_of(entry)
        for entry in fields(COMMANDS[name])
        if not entry.metadata["argument"] and f"`{flag_of(entry)}" not in readme
    ]

    assert f"transferkit {name}" in readme
    assert missing == []


def test_contributing__draws_the_tree_as_it_is():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rooms = {p.relative_to(PACKAGE).as_posix() for p in FILES if p.name != "__init__.py"}

    drawn = set(re.findall(r"^    (\S+\.py)", text, re.MULTILINE))
    assert drawn - {"cli/__init__.py"} == rooms


def test_options__are_checked_when_they_are_made_in_python_too():
    with pytest.raises(transferkit.TransferKitError, match="--strategy: got 'x', expected partial"):
        FinetuneOptions("data", strategy="x")
    made = FinetuneOptions("data", strategy="full", output="run")

    assert isinstance(made, Options)
    assert (made.data, made.output) == (Path("data"), Path("run"))
    assert made.strategy is Strategy.FULL
