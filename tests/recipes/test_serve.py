"""Serving a run: the answers of predict, what is known of the model, and who may reach it."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from notices import Notices
from served import Client, in_thread

import transferkit
from transferkit.errors import BundleError, EngineError, OptionError, OutputError
from transferkit.files import file_digest
from transferkit.options.serve import ServeOptions
from transferkit.recipes.serve import serve
from transferkit.reporter import SILENT, Reporter


@contextmanager
def serving(run, reporter: Reporter = SILENT, **options):
    """Serve a run until the end of the block."""
    with (
        serve(ServeOptions(str(run), port=0, **options), reporter) as made,
        in_thread(made.run, made.server.stop),
    ):
        yield Client(made.socket.getsockname()[1])


def start(run, **options):
    """Begin to serve a run, and end at once."""
    with serving(run, **options):
        pass


def images_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def test_answers__equal_those_of_predict(run_folder, image_folder):
    given = {"top_k": 2, "accuracy": 0.1, "sets": 0.5, "engine": "torch"}
    files = images_of(image_folder)

    with serving(run_folder, max_images=64, **given) as client:
        reply = client.predict_files(*((str(path), path.read_bytes()) for path in files))
        singly = [client.predict(path.read_bytes()).json[0] for path in files[:3]]

    expected = [
        one.to_record()
        for one in transferkit.predict([*map(str, files)], model=str(run_folder), **given)
    ]
    assert [without_numbers(one) for one in reply.json] == list(map(without_numbers, expected))
    assert numbers(reply.json) == pytest.approx(numbers(expected), abs=1e-6)
    assert numbers(singly) == pytest.approx(numbers(expected[:3]), abs=1e-6)


def without_numbers(record):
    top = [one["label"] for one in record["top"]]
    return {**record, "top": top, "confidence": 0, "unusual_score": 0}


def numbers(records):
    return [
        number
        for record in records
        for number in (record["unusual_score"], *(one["probability"] for one in record["top"]))
    ]


def test_model__is_described(run_folder):
    with serving(run_folder, max_upload=2, max_images=3, timeout=4) as client:
        about = client.ask("GET", "/model").json

    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert about["name"] == "colours"
    assert about["backbone"] == "test_resnet"
    assert about["classes"] == ["blue", "green", "red"]
    assert about["preprocessing"]["input_size"] == [3, 32, 32]
    assert about["metrics"]["val"]["accuracy"] == metrics["val"]["accuracy"]
    assert "per_class" not in about["metrics"]["val"]
    assert about["limits"] == {"bytes": 2_000_000, "images": 3, "seconds": 4.0}
    assert (about["explains"], about["collects"], about["report"]) == (True, False, None)
    assert (about["calibrated"], about["tells_unusual"]) == (True, False)


def test_report__is_that_of_the_run(run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "run")
    (run / "report.html").write_text("the report")

    for named in (run, run / "model"):
        with serving(named) as client:
            about = client.ask("GET", "/model").json
            assert (about["name"], about["report"]) == ("run", "/report")
            assert client.ask("GET", "/report").body == b"the report"


def test_evidence__is_an_image_of_what_the_network_sees(run_folder, exported_run, image_folder):
    image = images_of(image_folder)[0].read_bytes()

    for run in (run_folder, exported_run):
        with serving(run) as client:
            first, second = (client.ask("POST", f"/explain?class={label}", image)
                             for label in ("red", "blue"))  # fmt: skip
        assert (first.status, second.status) == (200, 200)
        assert first.body.startswith(b"\xff\xd8")
        assert first.body != second.body


def test_collected_images__are_a_dataset_that_finetune_reads(run_folder, image_folder, tmp_path):
    marked = tmp_path / "marked"

    with serving(run_folder, collect=marked) as client:
        for path in images_of(image_folder):
            label = {"red": "blue", "blue": "red"}.get(path.parent.name, "green")
            assert client.ask("POST", f"/marks?label={label}", path.read_bytes()).status == 201
    run = transferkit.finetune(
        marked, tmp_path / "run", backbone="test_resnet", weights="none", image_size=32, epochs=1
    )

    assert sum(map(sum, run.plan.classes.values())) == 24
    assert list(run.plan.classes) == ["blue", "green", "red"]
    assert {one.path for one in run.plan.left_out} == {"marks.csv"}
    rows = (marked / "marks.csv").read_text().splitlines()[1:]
    assert {row.split(",")[3] for row in rows} == {
        file_digest(run_folder / "model/model.safetensors")
    }


def test_a_named_onnx_file__is_served_without_evidence_and_figures(exported_run, image_folder):
    image = images_of(image_folder)[0].read_bytes()

    with serving(exported_run / "model/model.onnx") as client:
        about = client.ask("GET", "/model").json
        assert client.ask("POST", "/explain", image).status == 501
        assert client.predict(image).json[0]["label"] == "blue"

    assert (about["name"], about["explains"], about["metrics"]) == ("model.onnx", False, None)


TORCH_FREE = """
import sys
from served import Client, in_thread
from transferkit.options.serve import ServeOptions
from transferkit.recipes.serve import serve
with serve(ServeOptions(sys.argv[1], port=0, precision="fp32", collect=sys.argv[3])) as made:
    with in_thread(made.run, made.server.stop):
        client = Client(made.socket.getsockname()[1])
        image = open(sys.argv[2], "rb").read()
        print(client.predict(image).body.decode())
        assert client.ask("GET", "/model").status == 200
        assert client.ask("POST", "/marks?label=red", image).status == 201
print([m for m in ("torch", "torchvision", "timm", "sklearn", "jinja2") if m in sys.modules],
      file=sys.stderr)
"""


def test_serve__of_an_exported_model_imports_no_torch(exported_run, image_folder, tmp_path):
    image = images_of(image_folder)[0]

    ran = subprocess.run(
        [sys.executable, "-c", TORCH_FREE, exported_run, image, tmp_path / "marked"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip

    assert ran.stderr.splitlines()[-1] == "[]", ran.stderr
    (record,) = json.loads(ran.stdout)
    (expected,) = transferkit.predict([image], model=str(exported_run), engine="torch")
    assert record["label"] == expected.label
    assert record["confidence"] == pytest.approx(expected.confidence, abs=1e-4)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines__reach_it_only_by_decision(run_folder, host, monkeypatch):
    monkeypatch.delenv("TRANSFERKIT_TOKEN", raising=False)
    with pytest.raises(OptionError, match=f"--host: other machines reach {host}; choose"):
        start(run_folder, host=host)


@pytest.mark.parametrize(
    ("given", "environment", "warning", "status"),
    [
        ({"token": "secret"}, None, "it answers whoever has the token", 401),
        ({}, "secret", "it answers whoever has the token", 401),
        ({"no_token": True}, "secret", "it answers everyone who reaches it", 200),
    ],
)
def test_other_machines__are_warned_of(
    run_folder, monkeypatch, given, environment, warning, status
):
    if environment:
        monkeypatch.setenv("TRANSFERKIT_TOKEN", environment)
    reporter = Notices()

    with serving(run_folder, reporter, host="0.0.0.0", engine="torch", **given) as client:
        assert client.ask("GET", "/model").status == status
        assert client.ask("GET", "/model", Authorization="Bearer secret").status == 200

    (notice,) = reporter.all
    assert warning in notice


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"token": ""}, OptionError, "--token: got '', expected text"),
        ({"token": "naïve"}, OptionError, "--token: expected letters"),
        ({"token": "two words"}, OptionError, "--token: expected letters"),
        ({"token": "a", "no_token": True}, OptionError, "exclude each other"),
        ({"max_images": 300}, OptionError, "--max-images: got 300, more than the 256"),
        ({"allow_origin": ["example.org"]}, OptionError, "--allow-origin: got 'example.org'"),
        ({"allow_origin": ["https://a/b"]}, OptionError, "--allow-origin: got 'https://a/b'"),
        ({"allow_origin": ["*"]}, OptionError, r"--allow-origin: got '\*'"),
        ({"accuracy": 0.9, "min_confidence": 0.5}, OptionError, "leave out --min-confidence"),
        ({"sets": 0.9, "tta": True}, OptionError, "measured without --tta"),
        ({"max_wait": -1}, OptionError, "--max-wait: got -1"),
        ({"collect": "/dev/null/marked"}, OutputError, "cannot write /dev/null/marked"),
    ],
)
def test_serve__of_what_cannot_work_says_so(run_folder, given, error, message):
    with pytest.raises(error, match=message):
        start(run_folder, **given)


def test_serve__of_no_run_says_so(tmp_path):
    with pytest.raises(BundleError, match="no such run"):
        start(tmp_path / "nothing")


def test_serve__without_its_packages_says_how_to_install_them(run_folder, monkeypatch):
    monkeypatch.setattr("transferkit.recipes.serve._EXTRA", ("starlette", "no_such_package"))

    with pytest.raises(EngineError, match=r"no_such_package is not .* 'transferkit\[serve\]'"):
        start(run_folder)
