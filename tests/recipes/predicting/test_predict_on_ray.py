"""`predict --on ray`: the records of one process, computed by several, whatever happens to them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from image_files import make_classes

import transferkit
from transferkit.errors import EngineError, OptionError, OutputError
from transferkit.options.predict import PredictOptions
from transferkit.recipes.predicting.predict_on_ray import predict_on_ray


@pytest.fixture(scope="module")
def heap(tmp_path_factory):
    """Twenty-four images, one of them broken."""
    folder = make_classes(tmp_path_factory.mktemp("heap") / "images")
    (folder / "green/3.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def expected(heap, run_folder):
    found = transferkit.predict([str(heap)] * TIMES, model=str(run_folder), top_k=2)
    return [prediction.to_record() for prediction in found]


TIMES = 20
"""How often the heap is predicted, so that a worker can be killed before all is done."""


def start(heap, run_folder, output, *more):
    heaps = [heap] * TIMES
    words = ("predict", *heaps, "-m", run_folder, "--on", "ray", "--actors", 2, "-o", output)
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "transferkit",
            *map(str, (*words, "--top-k", 2, "--precision", "fp32", *more)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_equal(output, expected):
    """Check the records of a folder; small batches are rounded differently."""
    found = pq.read_table(output).to_pylist()
    for one, other in zip(found, expected, strict=True):
        for name in ("path", "status", "label", "error"):
            assert one[name] == other[name]
        assert (one["confidence"] or 0) == pytest.approx(other["confidence"] or 0, rel=1e-5)


def workers_of(driver: int) -> list[int]:
    """Return the processes of the actors that a driver's cluster has started."""
    parents, actors = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2]
            parents[int(folder.name)] = int(stat.split()[1])
            if b"MapWorker" in (folder / "cmdline").read_bytes():
                actors.append(int(folder.name))
        except OSError:
            continue  # it has ended meanwhile
    return [actor for actor in actors if driver in ancestors(actor, parents)]


def ancestors(process: int, parents: dict[int, int]) -> set[int]:
    found = set()
    while process := parents.get(process, 0):
        found.add(process)
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_predict_on_ray__gives_the_records_of_one_process_though_a_worker_is_killed(
    heap, run_folder, expected, tmp_path
):
    output = tmp_path / "records"
    process = start(heap, run_folder, output, "--images-per-part", 4)
    while not (workers := workers_of(process.pid)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate()

    assert (process.returncode, out) == (
        3,
        f"{output}: 480 predictions in 120 files, 20 errors\n",
    ), err
    assert_equal(output, expected)

    files = sorted((output / "parts").iterdir())
    files[3].unlink()
    files[20].unlink()
    written = {file: file.stat().st_mtime_ns for file in files if file.exists()}
    process = start(heap, run_folder, output, "--images-per-part", 4, "--resume")
    process.communicate()
    assert process.returncode == 3
    assert_equal(output, expected)
    assert {file: file.stat().st_mtime_ns for file in written} == written


def options(heap, run_folder, output, **more):
    return PredictOptions(
        inputs=(str(heap),), model=str(run_folder), on="ray", output=output, **more
    )


def test_predict_on_ray__resumes_only_what_was_begun_with_the_same(heap, run_folder, tmp_path):
    output = tmp_path / "records"
    (output / "parts").mkdir(parents=True)
    (output / "_manifest.json").write_text(json.dumps({"version": 1, "images": 99}))

    with pytest.raises(OutputError, match=r"already exists .*--resume, or .*--overwrite"):
        predict_on_ray(options(heap, run_folder, output))
    with pytest.raises(OutputError, match=r"begun with other images, paths_sha256, options;"):
        predict_on_ray(options(heap, run_folder, output, resume=True))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"on": "ray", "output": None}, "--on writes a folder of Parquet files"),
        ({"on": "spark"}, "--on: got spark, expected ray or ray://HOST:PORT"),
        ({"on": "ray", "format": "csv"}, "--on writes Parquet files, got --format csv"),
        ({"on": "ray", "resume": True, "overwrite": True}, "--overwrite starts over"),
        ({"on": None, "actors": 2}, "--actors is for --on"),
        ({"on": None, "resume": True}, "--resume is for --on"),
    ],
)
def test_options__that_contradict_each_other_are_refused(more, message, tmp_path):
    given = {"inputs": ("x",), "output": tmp_path / "records", **more}
    with pytest.raises(OptionError, match=message):
        PredictOptions(**given)


def test_predict_on_ray__says_how_to_install_ray(heap, run_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"Ray is not installed .*'transferkit\[ray\]'"):
        predict_on_ray(options(heap, run_folder, tmp_path / "records"))
