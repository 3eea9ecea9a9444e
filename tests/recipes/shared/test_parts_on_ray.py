"""Parts that a cluster computes: each once, and only what is missing; here without a cluster."""

import json

import pytest
from clusters import ClusterInThisProcess

from transferkit.errors import OutputError
from transferkit.options.predict import PredictOptions
from transferkit.recipes.shared.parts_on_ray import compute_parts
from transferkit.reporter import SilentReporter
from transferkit.tables.predictions import FAILED, Prediction, parquet_of

IMAGES = [f"{number}.png" for number in range(7)]


class Commands(SilentReporter):
    """A reporter that keeps the commands that resume."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def resumable(self, command: str) -> None:
        self.commands.append(command)


@pytest.fixture
def cluster(monkeypatch):
    cluster = ClusterInThisProcess()
    monkeypatch.setattr("transferkit.recipes.shared.parts_on_ray.compute_on_ray", cluster)
    return cluster


def compute(images):
    return parquet_of([Prediction(image, None, None, (), "broken") for image in images])


def failed(output, reporter, **more):
    options = PredictOptions(
        IMAGES, on="ray", output=output, **{"images_per_part": 2, "top_k": 2, **more}
    )
    return compute_parts(
        options,
        reporter,
        IMAGES,
        lambda: compute,
        doing="predicting",
        depends_on={"paths": "abc"},
        key=FAILED,
    )


def test_compute_parts__computes_only_what_an_interruption_left_missing(cluster, tmp_path):
    output, reporter = tmp_path / "my records", Commands()
    cluster.stops_after = 3
    with pytest.raises(KeyboardInterrupt):
        failed(output, reporter)
    assert reporter.commands == [f"the same command with -o '{output}' --resume"]

    cluster.stops_after = None
    assert failed(output, reporter, resume=True) == [b"2", b"2", b"2", b"1"]
    assert cluster.computed == [0, 1, 2, 3]


def test_compute_parts__resumes_only_what_was_begun_with_the_same(cluster, tmp_path):
    output = tmp_path / "records"
    failed(output, SilentReporter())

    with pytest.raises(OutputError, match=r"already exists .*--resume, or .*--overwrite"):
        failed(output, SilentReporter())
    with pytest.raises(OutputError, match=r"begun with other --top-k;"):
        failed(output, SilentReporter(), resume=True, top_k=3)
    manifest = output / "_manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"images": 9, "paths": ""}))
    with pytest.raises(OutputError, match=r"begun with other images, paths;"):
        failed(output, SilentReporter(), resume=True)
    assert failed(output, SilentReporter(), overwrite=True) == [b"2", b"2", b"2", b"1"]
