"""`predict --on ray`: the records of one process, computed by several, whatever happens to them."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clusters import ClusterInThisProcess, kill_a_worker, start_command
from image_files import make_classes

import transferkit
from transferkit import network_outputs
from transferkit.errors import EngineError
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


def command(heap, run_folder, output):
    """Return the words of a command that predicts the heap on a cluster."""
    cluster = ("--on", "ray", "--actors", 2, "--images-per-part", 4)
    how = ("--top-k", 2, "--precision", "fp32")
    return ("predict", *[heap] * TIMES, "-m", run_folder, *cluster, *how, "-o", output)


def assert_equal(output, expected):
    """Check the records of a folder; small batches are rounded differently."""
    found = pq.read_table(output).to_pylist()
    for one, other in zip(found, expected, strict=True):
        for name in ("path", "status", "label", "error"):
            assert one[name] == other[name]
        assert (one["confidence"] or 0) == pytest.approx(other["confidence"] or 0, rel=1e-5)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_predict_on_ray__gives_the_records_of_one_process_though_a_worker_is_killed(
    cli, heap, run_folder, expected, tmp_path, monkeypatch
):
    output, large = tmp_path / "records", tmp_path / "uv"
    large.mkdir()
    with (large / "photos.tar").open("wb") as sparse:
        sparse.truncate(600 * 2**20)  # more than Ray sends
    words = command(heap, run_folder, output)
    process = start_command(*words, below_uv_run=large)
    kill_a_worker(process)
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
    cluster = ClusterInThisProcess()
    monkeypatch.setattr("transferkit.recipes.shared.parts_on_ray.compute_on_ray", cluster)
    assert cli(*words, "--resume").code == 3
    assert cluster.computed == [3, 20]
    assert_equal(output, expected)
    assert {file: file.stat().st_mtime_ns for file in written} == written


def test_predict_on_ray__says_how_to_install_ray(heap, run_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    options = PredictOptions(
        inputs=(str(heap),), model=str(run_folder), on="ray", output=tmp_path / "records"
    )
    with pytest.raises(EngineError, match=r"Ray is not installed .*'transferkit\[ray\]'"):
        predict_on_ray(options)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_predict_on_ray__prepares_its_network_once_and_gives_equal_records(
    heap, run_folder, tmp_path, monkeypatch, engine
):
    prepared = []

    def counted(computation, compute):
        prepared.append(computation.what)
        return create_pass(computation, compute)

    create_pass = network_outputs.create_pass
    monkeypatch.setattr("transferkit.network_outputs.create_pass", counted)
    monkeypatch.setattr(
        "transferkit.recipes.shared.parts_on_ray.compute_on_ray", ClusterInThisProcess()
    )
    given = {"model": str(run_folder), "batch_size": 4, "engine": engine, "precision": "fp32"}
    options = PredictOptions(
        str(heap), on="ray", output=tmp_path / "records", images_per_part=8, **given
    )
    predict_on_ray(options)
    assert len(prepared) == 1

    expected = [found.to_record() for found in transferkit.predict(str(heap), **given)]
    assert pq.read_table(tmp_path / "records").to_pylist() == expected
