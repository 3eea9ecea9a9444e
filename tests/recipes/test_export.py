"""Exported models: the same predictions in every format, and without torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import transferkit
from transferkit.engines import Engine
from transferkit.engines.runtimes import is_installed
from transferkit.errors import BundleError, EngineError, OptionError, OutputError

INSTALLED = "transferkit.recipes.shared.predictor.is_installed"


@pytest.fixture(scope="module")
def exported(run_folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("exported") / "colours.onnx"
    return transferkit.export(run_folder, file)


@pytest.fixture
def run(run_folder, tmp_path) -> Path:
    """A copy of a finished run, which may be changed."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def probabilities(predictions):
    rows = [dict(prediction.top) for prediction in predictions]
    return np.array([[row[name] for name in sorted(row)] for row in rows])


def test_export__is_compared_with_predict_on_the_validation_images(exported):
    assert {parity.by.split()[0] for parity in exported.parity} == {"openvino", "onnxruntime"}
    for parity in exported.parity:
        assert parity.images == 6
        assert parity.labels == 0
        assert 0 < parity.largest < 1e-5
    assert exported.size == exported.output.stat().st_size


def test_export__predicts_what_the_run_predicts(run_folder, exported, image_folder):
    of_run = transferkit.predict(image_folder, model=str(run_folder), engine="torch")
    for engine in ("auto", "openvino", "onnxruntime"):
        of_file = transferkit.predict(image_folder, model=str(exported.output), engine=engine)

        assert [p.path for p in of_file] == [p.path for p in of_run]
        assert [p.label for p in of_file] == [p.label for p in of_run]
        assert np.abs(probabilities(of_file) - probabilities(of_run)).max() < 1e-5


def test_export__evaluates_as_the_run_does(run_folder, exported, image_folder):
    of_run = transferkit.evaluate(image_folder, str(run_folder), engine="torch")
    of_file = transferkit.evaluate(image_folder, str(exported.output))

    assert of_file["accuracy"] == of_run["accuracy"]
    assert of_file["log_loss"] == pytest.approx(of_run["log_loss"], rel=1e-5)


def test_export__into_the_run_serves_predict(run, image_folder, monkeypatch):
    of_torch = transferkit.predict(image_folder, model=str(run))
    assert transferkit.export(run).output == run / "model/model.onnx"
    monkeypatch.setattr("transferkit.bundle.ModelBundle.load", lambda path: pytest.fail("torch"))

    for model in (run, run / "model"):
        of_onnx = transferkit.predict(image_folder, model=str(model))
        assert np.abs(probabilities(of_onnx) - probabilities(of_torch)).max() < 1e-5
    with pytest.raises(pytest.fail.Exception):
        transferkit.predict(image_folder, model=str(run), engine="torch")


def test_export__in_the_run_is_not_used_for_other_weights(run, cli, image_folder):
    transferkit.export(run)
    weights = run / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"\x00\x00", b"\x00\x01", 1))

    ran = cli("predict", image_folder / "blue", "-m", run)

    assert "was not made from model.safetensors beside it and is not used" in " ".join(
        ran.err.split()
    )


TORCH_FREE = """
import sys
from transferkit.cli import main
sys.argv = ["transferkit", *sys.argv[1:]]
try:
    main()
finally:
    print([m for m in ("torch", "torchvision", "timm", "sklearn") if m in sys.modules],
          file=sys.stderr)
"""


@pytest.mark.parametrize("place", ["file", "run"])
def test_predict__of_an_exported_model_imports_no_torch(exported, run, image_folder, place):
    shutil.copy(exported.output, run / "model/model.onnx")
    model = exported.output if place == "file" else run
    broken = image_folder / "missing.png"
    image = next(image_folder.rglob("*.png"))

    ran = subprocess.run(
        [sys.executable, "-c", TORCH_FREE, "predict", image, broken, "-m", model,
         "--precision", "fp32"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 3, ran.stderr
    assert ran.stderr.splitlines()[-1] == "[]"
    first, second = map(json.loads, ran.stdout.splitlines())
    expected = transferkit.predict([image], model=str(run), engine="torch")
    assert first["label"] == expected[0].label
    assert first["confidence"] == pytest.approx(expected[0].confidence, abs=1e-4)
    assert second["error"] == "no such file or directory"


def test_export__holds_names_and_preprocessing_and_takes_any_batch(exported, run_folder):
    model = onnx.load(exported.output)
    onnx.checker.check_model(model, full_check=True)
    about = json.loads({p.key: p.value for p in model.metadata_props}["transferkit"])

    assert about["class_names"] == ["blue", "green", "red"]
    assert about["preprocessing"]["input_size"] == [3, 32, 32]
    shapes = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in (model.graph.input[0], model.graph.output[0])]  # fmt: skip
    assert shapes == [["n", 32, 32, 3], ["n", 3]]
    assert str(run_folder.parent) not in exported.output.read_bytes().decode("latin-1")


@pytest.mark.parametrize("suffix", ["xml", "pt2"])
def test_export__writes_the_formats_of_openvino_and_torch(run_folder, tmp_path, suffix):
    written = transferkit.export(run_folder, tmp_path / f"colours.{suffix}")

    assert [parity.labels for parity in written.parity] == [0]
    assert written.parity[0].largest < 1e-5
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"colours.xml", "colours.bin"} if suffix == "xml" else {"colours.pt2"}
    if suffix == "pt2":
        extra = {"transferkit.json": ""}
        module = torch.export.load(written.output, extra_files=extra).module()
        assert module(torch.zeros(5, 32, 32, 3, dtype=torch.uint8)).shape == (5, 3)
        assert json.loads(extra["transferkit.json"])["class_names"] == ["blue", "green", "red"]


@pytest.mark.parametrize("classifier", ["svm", "linear", "mlp"])
def test_export__takes_a_classifier_along(image_folder, tmp_path, monkeypatch, classifier):
    run = tmp_path / "run"
    transferkit.finetune(
        image_folder, run, backbone="test_resnet", weights="none", image_size=32,
        strategy="features", classifier=classifier,
    )  # fmt: skip
    of_run = transferkit.predict(image_folder, model=str(run))

    written = transferkit.export(run, tmp_path / "colours.onnx")
    of_file = transferkit.predict(image_folder, model=str(written.output))

    assert [parity.by.split()[0] for parity in written.parity] == ["onnxruntime"]
    assert [p.label for p in of_file] == [p.label for p in of_run]
    assert np.abs(probabilities(of_file) - probabilities(of_run)).max() < 1e-4
    transferkit.export(run)
    for there in (True, False):
        monkeypatch.setattr(INSTALLED, lambda engine, there=there: there)
        of_onnx = transferkit.predict(image_folder, model=str(run))
        assert np.abs(probabilities(of_onnx) - probabilities(of_run)).max() < 1e-4
    with pytest.raises(OptionError, match="scikit-learn goes along"):
        transferkit.export(run, tmp_path / "colours.xml")
    assert not (tmp_path / "colours.xml").exists()


def test_export__in_int8_tells_what_it_costs(run_folder, tmp_path, cli):
    small = tmp_path / "small.onnx"

    ran = cli("export", run_folder, "-o", small, "--quantize", "int8", "--max-drop", "1")

    assert "int8: " in ran.out
    assert "on 6 validation images" in ran.out
    whole = transferkit.export(run_folder, tmp_path / "whole.onnx")
    assert small.stat().st_size < 0.6 * whole.size


def test_export__in_int8_is_refused_beyond_the_accepted_loss(run_folder, tmp_path, monkeypatch):
    def spoiled(content, batches):
        model = onnx.load_model_from_string(content)
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 2:
                values = -onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return model.SerializeToString()

    monkeypatch.setattr("transferkit.engines.quantization.quantize", spoiled)

    with pytest.raises(OptionError, match="--max-drop: int8 loses"):
        transferkit.export(run_folder, tmp_path / "small.onnx", quantize="int8")
    assert list(tmp_path.iterdir()) == []


def test_export__refuses_what_differs_from_predict(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transferkit.recipes.exporting.parity.LARGEST_DIFFERENCE", 1e-15)

    with pytest.raises(EngineError, match="differs from predict: 0 of 6 labels"):
        transferkit.export(run_folder, tmp_path / "colours.onnx")
    assert list(tmp_path.iterdir()) == []


def test_export__says_why_nothing_was_compared(run, tmp_path, cli):
    shutil.move(run / "model", tmp_path / "alone")

    ran = cli("export", tmp_path / "alone", "-o", tmp_path / "colours.onnx")

    assert ran.code == 0
    assert f"not compared with predict: {tmp_path / 'alone'} is not part of a run" in ran.out
    with pytest.raises(OptionError, match="is not part of a run"):
        transferkit.export(tmp_path / "alone", tmp_path / "small.onnx", quantize="int8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "torch"}, "--format: torch needs a file"),
        ({"output": "a.pt2", "format": "onnx"}, "a file of the format onnx ends in .onnx"),
        ({"output": "a.tflite"}, "ends in .onnx"),
        ({"output": "a.pt2", "quantize": "int8"}, "int8 is for ONNX, got torch"),
    ],
)
def test_export__refuses_options_that_contradict_each_other(run_folder, options, message):
    with pytest.raises(OptionError, match=message):
        transferkit.export(run_folder, **options)


def test_export__replaces_nothing_unasked(exported, run_folder, tmp_path):
    with pytest.raises(OutputError, match="already exists"):
        transferkit.export(run_folder, exported.output)
    with pytest.raises(BundleError, match="no such run"):
        transferkit.export(tmp_path / "nowhere")


def test_export__without_onnxruntime_compares_in_openvino(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "transferkit.recipes.export.is_installed", lambda engine: engine is Engine.OPENVINO
    )
    assert is_installed(Engine.ONNXRUNTIME)

    written = transferkit.export(run_folder, tmp_path / "colours.onnx")

    assert [parity.by.split()[0] for parity in written.parity] == ["openvino"]


def test_exported_model__computes_in_fp32_unless_asked(exported, image_folder):
    image = Image.new("RGB", (40, 40), "red")
    with pytest.raises(OptionError, match="onnxruntime computes in fp32, got bf16"):
        transferkit.predict(
            [image], model=str(exported.output), engine="onnxruntime", precision="bf16"
        )
    with pytest.raises(OptionError, match="torch cannot run"):
        transferkit.predict([image], model=str(exported.output), engine="torch")
