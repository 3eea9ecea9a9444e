"""Where commands write: nothing is replaced unasked, and names are not given twice."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
from tiny_backbone import TINY

from transferkit.run.folder import chosen_folder, claimed

DESTINATION = SimpleNamespace(output=None, overwrite=False, resume=False)


def test_chosen_folder__reserves_a_name_until_the_end_and_leaves_nothing_empty(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with chosen_folder(DESTINATION, "a") as first, chosen_folder(DESTINATION, "a") as second:
        assert (first.as_posix(), second.as_posix()) == ("runs/a", "runs/a-2")
        with claimed(second, DESTINATION):
            (second / "options.json").touch()

    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a-2"]
    with chosen_folder(DESTINATION, "b"):
        pass
    assert not (tmp_path / "runs/b").exists()


def test_chosen_folder__gives_each_of_many_threads_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    together = Barrier(16)

    def choose(_):
        together.wait()
        with chosen_folder(DESTINATION, "a") as folder:
            together.wait()
            return folder

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(choose, range(16)))) == 16


def test_finetune__begun_several_times_at_once_leaves_several_runs(few_images, tmp_path):
    command = [
        *(sys.executable, "-m", "transferkit", "finetune", str(few_images), *TINY),
        *("--epochs", "1", "--no-report", "--quiet"),
    ]
    processes = [subprocess.Popen(command, cwd=tmp_path) for _ in range(2)]

    assert [process.wait() for process in processes] == [0, 0]
    stem = "colours-test_resnet-partial"
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert runs == [stem, f"{stem}-2"]
    assert all((tmp_path / "runs" / run / "model/config.json").is_file() for run in runs)


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (("predict", "DATA", "-m", "RUN"), "out.csv"),
        (("evaluate", "DATA", "-m", "RUN"), "out.json"),
        (("extract-features", "DATA", "-m", "RUN"), "out.npz"),
        (("report", "RUN", "--data", "DATA"), "out.html"),
        (("explain", "DATA/red/1.png", "-m", "RUN"), "out/1.gradcam.png"),
        (("inspect", "test_resnet", "--weights", "none", "--kernels"), "out/kernels.png"),
        (("finetune", "DATA", *TINY, "--epochs", "1"), "out/options.json"),
        (("compare", "DATA", "-b", "test_resnet", "--weights", "none", "--image-size", "32",
          "-s", "partial", "--seeds", "1", "--epochs", "1"), "out/compare.json"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_output__is_replaced_with_overwrite_only(
    cli, image_folder, run_folder, tmp_path, words, output
):
    output = tmp_path / output
    where = output.parent if output.parent.name == "out" else output
    words = [w.replace("DATA", str(image_folder)).replace("RUN", str(run_folder)) for w in words]
    assert cli(*words, "-o", where).code == 0
    before = output.read_bytes()

    refused = cli(*words, "-o", where)
    assert refused.code == 1
    assert "already exists" in refused.err
    assert "--overwrite" in refused.err
    assert output.read_bytes() == before

    output.write_text("{}" if output.suffix == ".json" else "old")
    assert cli(*words, "-o", where, "--overwrite").code == 0
    assert output.read_bytes() not in (b"{}", b"old")
