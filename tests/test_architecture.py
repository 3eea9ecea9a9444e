"""The package's rules, as tests: layers, names, a quick start, one definition per option."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import typer.main
from commands import COMMANDS

import transferkit
from transferkit.cli import app
from transferkit.models.strategies import Strategy
from transferkit.options.declaration import Options, declared_options
from transferkit.options.finetune import FinetuneOptions

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "transferkit"
HEAVY = (
    *("torch", "torchvision", "timm", "sklearn", "numpy", "pyarrow", "matplotlib", "captum"),
    *("jinja2", "onnx", "onnxruntime", "openvino", "tensorboard", "mlflow", "wandb"),
    *("starlette", "uvicorn"),
)

LAYERS = [
    {
        *("errors", "reporter", "durations", "files", "devices", "device_copies", "interruption"),
        *("memory", "batch_size", "places", "processes"),
    },
    {
        *("row_cache", "classifiers", "data", "engines", "models", "intervals", "metrics"),
        *("calibration", "confidence", "sampling", "tables"),
    },
    {
        *("training", "inference", "compute", "forward_pass", "network_outputs", "frozen_layers"),
        *(
            "ray_cluster",
            "bundle",
            "attribution",
            "export_formats",
            "exported_model",
            "report",
            "run",
            "trackers",
            "serving",
        ),
    },
    {"options"},
    {"recipes"},
    {"api", "cli", "notebook", "sklearn"},
]
"""Bottom to top: a module imports from its own layer or those below."""

OF_EVERY_COMMAND = ("help", "quiet", "config", "save_config", "config_schema")

FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name[:2] != "__")


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer_of(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def imported(path: Path) -> set[str]:
    """Return the full names of the package's modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("transferkit.")}


each_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


@each_file
def test_imports__point_down(path):
    parts = {name.split(".")[1] for name in imported(path)}

    assert {part for part in parts if layer_of(part) > layer_of(part_of(path))} == set()


@each_file
def test_command_line__alone_prints_exits_and_imports_rich_and_typer(path):
    if path.is_relative_to(PACKAGE / "cli"):
        return
    tree = ast.parse(path.read_text("utf-8"))
    calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}

    assert not calls & {"print", "exit", "sys.exit", "input"}
    assert not any((m or "").split(".")[0] in ("rich", "typer") for m in modules)


@each_file
def test_modules__patch_no_other_and_rebind_no_global(path):
    """No module patches another, inspects the exception being handled or rebinds a global.

    Two patches remain: without the first, predicting an image takes twice as long; without the
    second, OpenVINO reports to a server when it is imported.
    """
    text, tree = path.read_text("utf-8"), ast.parse(path.read_text("utf-8"))

    patches = re.search(r"sys\.modules\b", text) is not None
    assert patches == (path.name in ("deferred_compiler.py", "private_openvino.py"))
    assert not re.search(r"sys\.exception\(|sys\.exc_info\(", text)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]


def test_parts__never_see_an_options_object():
    below = [path for path in FILES if layer_of(part_of(path)) < layer_of("options")]

    assert len(below) > 20
    assert not [
        path for path in below if re.search(r"(?<!\.)\b\w+Options\b", path.read_text("utf-8"))
    ]


def test_settings__are_resolved_in_one_place():
    """No step of a run interprets "auto", or fills in an option that was left open."""
    steps = PACKAGE / "recipes" / "finetuning"
    left_open = r"\bAUTO\b|options\.(thaw_every|freeze_epochs|layer_decay|learning_rate|bn|views)\b"
    asking = {p.name for p in steps.glob("*.py") if re.search(left_open, p.read_text("utf-8"))}

    # Resuming a run with --lr auto takes the rate that its range test found.
    assert asking == {"resolve_settings.py", "resuming.py"}


def test_strategies__are_never_told_apart_by_name():
    """No module compares the name of a phase, or the value of `--unfreeze`, with a string."""
    comparing = [
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if re.search(r"""(\.name|unfreeze) (==|!=|in|is) ["'(]""", path.read_text("utf-8"))
    ]

    assert comparing == []


def test_recipes__are_one_file_per_command_and_folders_of_steps():
    files = {path.stem for path in (PACKAGE / "recipes").glob("*.py")} - {"__init__"}
    folders = {path.name for path in (PACKAGE / "recipes").iterdir() if path.is_dir()}

    assert files == {name.replace("-", "_") for name in COMMANDS}
    assert folders - {"__pycache__"} == {
        *("finetuning", "predicting", "extracting", "comparing", "auditing", "exporting", "shared"),
    }


def test_modules__have_names_of_their_own():
    """A command's modules in cli, recipes and options share its name; no others share one."""
    shared = {name.replace("-", "_") for name in COMMANDS}
    places = {"cli", "recipes", "options"}
    names = Counter(path.stem for path in FILES if path.stem != "__init__")
    twice = {name for name, count in names.items() if count > 1}

    assert twice <= shared
    assert {part_of(path) for path in FILES if path.stem in twice} <= places


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


def test_all__is_sorted_and_importable():
    assert transferkit.__all__ == sorted(transferkit.__all__)
    assert all(getattr(transferkit, name).__doc__ for name in transferkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = transferkit.nonsense


def test_commands__are_all_listed():
    assert set(typer.main.get_command(app).commands) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_options__of_command_line_and_class_are_the_same(name):
    command = typer.main.get_command(app).commands[name]
    parameters = {p.name: p for p in command.params if p.name not in OF_EVERY_COMMAND}
    declared = {entry.name: entry for entry in declared_options(COMMANDS[name])}

    assert set(parameters) == set(declared)
    for key, entry in declared.items():
        assert entry.option.help.endswith("."), key
        if not entry.option.argument:
            assert entry.flag in (*parameters[key].opts, *parameters[key].secondary_opts)


@each_file
def test_options__are_listed_by_name_nowhere_else(path):
    """Facts about an option belong to its declaration, not to a list of names."""
    names = {entry.name for cls in COMMANDS.values() for entry in declared_options(cls)}
    names -= {"data", "model", "output", "layer", "split", "val", "weights", "strategy", "seed"}
    lists = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Tuple | ast.List | ast.Set)
        and sum(isinstance(e, ast.Constant) and e.value in names for e in node.elts) > 3
    ]

    assert lists == []


def test_contributing__lists_every_module():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    modules = {p.relative_to(PACKAGE).as_posix() for p in FILES if p.name != "__init__.py"}

    drawn = set(re.findall(r"^    (\S+\.py)", text, re.MULTILINE))
    assert drawn - {"cli/__init__.py"} == modules


def test_contributing__names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    adding = text[text.index("## Adding things") :]
    named = set(re.findall(r"`((?:tests|transferkit|docs)/[\w/.]+|[\w/]+/\w+\.py)`", adding))
    missing = {n for n in named if not (ROOT / n).exists() and not (PACKAGE / n).exists()}

    assert named
    assert {name for name in missing if "/x." not in name and "_x." not in name} == set()


def test_options__made_in_python_are_checked_too():
    with pytest.raises(transferkit.TransferKitError, match="--strategy: got 'x', expected partial"):
        FinetuneOptions("data", strategy="x")
    made = FinetuneOptions("data", strategy="full", output="run")

    assert isinstance(made, Options)
    assert (made.data, made.output) == (Path("data"), Path("run"))
    assert made.strategy is Strategy.FULL
