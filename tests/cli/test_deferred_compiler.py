"""The command line imports torch's compiler only when something is compiled."""

import json
import subprocess
import sys
from importlib.util import find_spec

NOT_LOADED = (
    "torch._dynamo.symbolic_convert",
    "torch._inductor",
    "torch.distributed.tensor._api",
    "timm.optim",
    "sklearn",
    "matplotlib",
    "pyarrow",
    "sympy",
)
"""What neither `predict` nor `finetune` with adamw needs."""


def run_program(program: str, *words: object) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_commands__load_no_compiler_no_scikit_learn_and_no_table_library(
    run_folder, image_folder, tmp_path
):
    out = run_program(
        "import json, sys; from transferkit.cli import main\n"
        "def run(*words):\n"
        "    sys.argv = ['transferkit', *words]\n"
        "    try:\n        main()\n"
        "    except SystemExit as stop:\n        assert not stop.code, stop.code\n"
        "    print(json.dumps(list(sys.modules)))\n"
        "image, model, data, output = sys.argv[1:]\n"
        "run('predict', image, '-m', model)\n"
        "run('finetune', data, '-b', 'edges8', '--epochs', '2', '--no-report', '-o', output)\n",
        *(image_folder / "red/0.png", run_folder, image_folder, tmp_path / "run"),
    )
    lists = [line for line in out.splitlines() if line.startswith("[")]
    predicting, training = (set(json.loads(line)) for line in lists)

    assert "torch" in predicting
    assert "transferkit.training.optimizer" in training - predicting
    assert training.isdisjoint(NOT_LOADED)


def test_defer_compiler__gives_way_when_something_is_compiled():
    run_program(
        "import sys; from transferkit.cli.deferred_compiler import defer_compiler\n"
        "defer_compiler()\n"
        "import torch, torchvision\n"
        "import torch._dynamo\n"
        "assert torch.compiler.disable(abs) is abs\n"
        "assert torch.compiler.disable(recursive=False)(abs) is abs\n"
        "torch.optim.AdamW([torch.zeros(1)]); assert 'sympy' not in sys.modules\n"
        "doubled = torch.compile(lambda x: 2 * x, backend='eager')\n"
        "assert doubled(torch.ones(1)).item() == 2\n"
        "assert sys.modules['torch._dynamo'].__file__\n"
        "assert sys.modules['torch._dynamo.utils'].__file__\n"
        "assert torchvision.ops.roi_align.__module__\n"
        "defer_compiler(); assert sys.modules['torch._dynamo'].__file__\n"
    )


def test_defer_compiler__gives_way_when_the_compilers_settings_are_read():
    run_program(
        "import sys; from transferkit.cli.deferred_compiler import defer_compiler\n"
        "defer_compiler()\n"
        "import torch._dynamo; torch._dynamo.config.cache_size_limit = 77\n"
        "assert sys.modules['torch._dynamo'].config.cache_size_limit == 77\n"
        "from torchvision.ops import roi_align\n"
        "in_use = sys.modules[roi_align.__module__]\n"
        "assert in_use.is_compile_supported('cpu') in (True, False)\n"
    )


def test_defer_compiler__replaces_a_module_that_exists():
    """The name is private to torch: if it changes, start-up is slow again."""
    assert find_spec("torch._dynamo.utils")
