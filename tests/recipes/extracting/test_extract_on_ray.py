"""`extract-features --on ray`: the rows of one process, whatever happens to the workers."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clusters import ClusterInThisProcess, kill_a_worker, start_command
from image_files import make_classes, save_image
from tiny_backbone import TINY

import transferkit
from transferkit.errors import DataError, OptionError, OutputError
from transferkit.reporter import LeftOut

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 4}


@pytest.fixture
def cluster(monkeypatch):
    cluster = ClusterInThisProcess()
    monkeypatch.setattr("transferkit.recipes.shared.parts_on_ray.compute_on_ray", cluster)
    return cluster


@pytest.fixture
def data(tmp_path):
    """Three classes of eight images, of which one is broken; and a class of a broken image."""
    folder = make_classes(tmp_path / "images")
    (folder / "green/3.png").write_bytes(b"")
    (folder / "amber").mkdir()
    (folder / "amber/0.png").write_bytes(b"")
    return folder


def extracted(data, output, **more):
    return transferkit.extract_features(
        data, output, on="ray", **{**SMALL, "images_per_part": 4, **more}
    )


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_extract_on_ray__gives_the_rows_of_one_process_though_a_worker_is_killed(tmp_path):
    data = make_classes(tmp_path / "images", 40)
    (data / "green/3.png").write_bytes(b"")
    transferkit.extract_features(data, tmp_path / "one.parquet", **SMALL)

    words = ("extract-features", data, *TINY, "--batch-size", 4, "--precision", "fp32")
    cluster = ("--on", "ray", "--actors", 2, "--images-per-part", 8)
    process = start_command(*words, *cluster, "-o", tmp_path / "rows")
    kill_a_worker(process)
    out, err = process.communicate()

    line = f"{tmp_path}/rows: 119 images x 96 features of test_resnet\n"
    assert (process.returncode, out) == (3, line), err
    assert "left out: green/3.png: an empty file\n" in err
    assert len(list((tmp_path / "rows/parts").iterdir())) == 15
    assert pq.read_table(tmp_path / "rows").equals(pq.read_table(tmp_path / "one.parquet"))


def test_extract_on_ray__resumes_and_knows_what_was_left_out(data, cluster, tmp_path):
    output = tmp_path / "rows"
    cluster.stops_after = 4
    with pytest.raises(KeyboardInterrupt):
        extracted(data, output)
    cluster.stops_after = None
    written = extracted(data, output, resume=True)

    assert cluster.computed == [0, 1, 2, 3, 4, 5, 6]
    one = transferkit.extract_features(data, tmp_path / "one.parquet", **SMALL)
    assert (written.shape, written.left_out) == (one.shape, one.left_out)
    assert LeftOut("amber", "no readable image of this class", unreadable=True) in one.left_out
    rows, expected = pq.read_table(output), pq.read_table(tmp_path / "one.parquet")
    assert rows.drop("label").equals(expected.drop("label"))
    # Labels are fixed before any image is read.
    assert set(zip(*rows.select(["label", "label_name"]).to_pydict().values(), strict=True)) == {
        (1, "blue"),
        (2, "green"),
        (3, "red"),
    }


def test_extract_on_ray__writes_parts_without_rows(data, cluster, tmp_path):
    extracted(data, tmp_path / "rows", images_per_part=1)

    part = pq.read_table(tmp_path / "rows/parts/part-00000000.parquet")
    assert part.num_rows == 0
    assert part.schema.names[-1] == "pooled_95"
    assert pq.read_table(tmp_path / "rows").num_rows == 23


def test_extract_on_ray__resumes_only_the_same_files_and_options(data, cluster, tmp_path):
    output = tmp_path / "rows"
    extracted(data, output)
    assert json.loads((output / "_manifest.json").read_text())["layers"] == ["pooled"]

    with pytest.raises(OutputError, match="begun with other layers, shape, --layer;"):
        extracted(data, output, resume=True, layer=("stem",))
    with pytest.raises(OutputError, match="begun with other --images-per-part;"):
        extracted(data, output, resume=True, images_per_part=5)
    save_image(data / "red/3.png", (1, 2, 3), seed=0, size=(50, 50))
    with pytest.raises(OutputError, match="begun with other files;"):
        extracted(data, output, resume=True)


def test_extract_on_ray__refuses_unreadable_images_if_asked_to(data, cluster, tmp_path):
    with pytest.raises(DataError, match=r"cannot be used: amber/0.png .*, green/3.png"):
        extracted(data, tmp_path / "rows", on_bad_image="fail")


def test_extract_on_ray__holds_no_maps(data, cluster, tmp_path):
    with pytest.raises(OptionError, match=r"--pool none: a \.parquet file cannot hold maps"):
        extracted(data, tmp_path / "rows", pool="none")
    assert not (tmp_path / "rows").exists()
