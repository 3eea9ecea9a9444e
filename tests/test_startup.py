"""A quick start: what is put off, what is not loaded, and what comes when it is asked for."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from transferkit.startup import defer_compiler, import_without

WATCHED = (
    "torch._dynamo.symbolic_convert",
    "torch._inductor",
    "torch.distributed.tensor._api",
    "sklearn",
    "matplotlib",
    "pyarrow",
    "sympy",
)


def test_commands__load_no_compiler_no_scikit_learn_and_an_optimizer_only_to_train(
    run_folder, image_folder, tmp_path
):
    program = (
        "import json, sys; from transferkit.cli import main\n"
        "def run(*words):\n"
        "    sys.argv = ['transferkit', *words]\n"
        "    try:\n        main()\n"
        "    except SystemExit as stop:\n        assert not stop.code, stop.code\n"
        "    print(json.dumps(list(sys.modules)))\n"
        "picture, model, data, to = sys.argv[1:]\n"
        "run('predict', picture, '-m', model)\n"
        "run('finetune', data, '-b', 'edges8', '--epochs', '2', '--no-report', '-o', to)\n"
    )
    places = (image_folder / "red/0.png", run_folder, image_folder, tmp_path / "run")
    ran = subprocess.run(
        [sys.executable, "-c", program, *map(str, places)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    lists = [line for line in ran.stdout.splitlines() if line.startswith("[")]
    predicting, training = (set(json.loads(line)) for line in lists)

    assert "torch" in predicting
    assert "timm.optim" in training - predicting
    assert training.isdisjoint(WATCHED)


def test_defer_compiler__gives_way_to_the_real_one_when_something_is_compiled():
    program = (
        "import sys; from transferkit.startup import defer_compiler; defer_compiler()\n"
        "import torch, torchvision\n"
        "import torch._dynamo; torch._dynamo.config.cache_size_limit = 77\n"
        "torch.optim.AdamW([torch.zeros(1)]); assert 'sympy' not in sys.modules\n"
        "doubled = torch.compile(lambda x: 2 * x, backend='eager')\n"
        "assert doubled(torch.ones(1)).item() == 2\n"
        "assert sys.modules['torch._dynamo'].__file__\n"
        "assert torch._dynamo.config.cache_size_limit == 77\n"
        "assert torchvision.ops.roi_align.__module__\n"
        "defer_compiler(); assert sys.modules['torch._dynamo'].__file__\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr


def test_defer_compiler__stands_for_a_module_that_there_is():
    """Names of torch's own that it relies on; where they go, the start is slow again."""
    assert find_spec("torch._dynamo.utils")
    defer_compiler()
    assert "torch._dynamo" in sys.modules


@pytest.fixture
def packages(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tk_heavy.py").write_text("")
    (tmp_path / "tk_can.py").write_text(
        "try:\n    import tk_heavy\n    has = True\nexcept ImportError:\n    has = False\n"
    )
    (tmp_path / "tk_must.py").write_text("import tk_heavy\nhas = True\n")
    yield
    for name in ("tk_heavy", "tk_can", "tk_must"):
        sys.modules.pop(name, None)


def test_import_without__spares_what_is_not_needed(packages):
    assert not import_without("tk_can", "tk_heavy").has
    assert "tk_heavy" not in sys.modules
    __import__("tk_heavy")


def test_import_without__gives_it_to_who_cannot_do_without(packages):
    assert import_without("tk_must", "tk_heavy").has


def test_import_without__leaves_alone_what_is_loaded_already(packages):
    __import__("tk_heavy")

    assert import_without("tk_can", "tk_heavy").has
