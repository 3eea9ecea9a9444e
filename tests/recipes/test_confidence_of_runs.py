"""What a run knows of its confidence reaches every record: thresholds, sets, unusual images."""

import json
import shutil

import numpy as np
import pytest
from image_files import make_classes
from PIL import Image

import transferkit
from transferkit.errors import BundleError, OptionError
from transferkit.metrics import expected_calibration_error, log_loss
from transferkit.tables.probabilities import read_probabilities

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 6}
KINDS = {
    "network": {"strategy": "full", "epochs": 4, "learning_rate": 3e-3},
    "classifier": {"strategy": "features", "classifier": "linear"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_classes(tmp_path_factory.mktemp("many") / "colours", 20)


@pytest.fixture(scope="module")
def unusual(tmp_path_factory):
    """Images of no class: black and white stripes."""
    folder = tmp_path_factory.mktemp("unusual")
    for width in (1, 2, 4):
        row = np.repeat([0, 255], width).astype(np.uint8)
        pixels = np.tile(row, (40, 40 // len(row) + 1))[:, :40]
        Image.fromarray(pixels).convert("RGB").save(folder / f"{width}.png")
    return folder


@pytest.fixture(scope="module", params=KINDS)
def run(request, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("confident") / request.param
    transferkit.finetune(
        data, folder, val_fraction=0.4, report=False, **SMALL, **KINDS[request.param]
    )
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return transferkit.export(run, tmp_path_factory.mktemp("exported") / "model.onnx").output


def test_predict__tells_unusual_images(run, data, unusual):
    predictions = transferkit.predict([str(data), str(unusual)], model=str(run))
    usual, others = predictions[:60], predictions[60:]

    assert np.mean([p.unusual for p in usual]) <= 0.15
    assert all(p.unusual for p in others)
    assert min(p.unusual_score for p in others) > np.median([p.unusual_score for p in usual])
    assert all(p.label for p in others)  # the label is for the user to use or not


def test_predict__scores_alike_in_every_engine_and_exported(run, exported, data, unusual):
    inputs = [str(data), str(unusual)]
    expected = transferkit.predict(inputs, model=str(run), engine="torch")

    for model, engine in ((run, "openvino"), (exported, "auto"), (exported, "onnxruntime")):
        found = transferkit.predict(inputs, model=str(model), engine=engine)
        assert [p.unusual for p in found] == [p.unusual for p in expected]
        np.testing.assert_allclose(
            [p.unusual_score for p in found], [p.unusual_score for p in expected], atol=1e-5
        )


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """An image of noise, and another in which the network sees its mirror image."""
    folder = tmp_path_factory.mktemp("mirrored") / "red"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (33, 33, 3), dtype=np.uint8)
    other = pixels.copy()
    other[:, :32] = pixels[:, 31::-1]  # the last row and column are cropped
    for name, content in (("1.png", pixels), ("2.png", other)):
        Image.fromarray(content).save(folder / name)
    return folder


def test_predict__with_tta_is_the_mean_over_an_image_and_its_mirror_image(run, exported, mirrored):
    def predicted(model, **options):
        found = transferkit.predict(mirrored, model=str(model), **options)
        rows = [[dict(p.top)[name] for name in sorted(dict(p.top))] for p in found]
        return np.column_stack([rows, [p.unusual_score for p in found]])

    for model in (run, exported):
        alone, averaged = predicted(model), predicted(model, tta=True)
        assert abs(alone[0] - alone[1]).max() > 1e-4
        np.testing.assert_allclose(averaged, [alone.mean(axis=0)] * 2, atol=1e-5)


def test_evaluate__with_tta_evaluates_those_means(run, mirrored):
    metrics = transferkit.evaluate(mirrored.parent, str(run), tta=True)

    predictions = transferkit.predict(mirrored, model=str(run), tta=True)
    rows = np.array([[dict(p.top)[name] for name in ("red", "green", "blue")] for p in predictions])
    assert metrics["log_loss"] == pytest.approx(log_loss(np.zeros(2, dtype=int), rows))


def test_predict__abstains_below_the_threshold_for_an_accuracy(run, exported, data):
    table = transferkit.ModelBundle.load(run).confidence
    least = max((one.correct + 0.5) / (one.answered + 1) for one in table.answering)
    threshold = table.threshold_for(least).threshold

    for model in (run, exported):
        found = transferkit.predict(data, model=str(model), accuracy=least)
        assert [p.abstained for p in found] == [p.confidence < threshold for p in found]
        assert [p.label is None for p in found] == [p.abstained for p in found]
        with pytest.raises(OptionError, match=r"--accuracy: 24 validation images show no thres"):
            transferkit.predict(data, model=str(model), accuracy=0.999)


def test_predict__gives_sets_that_hold_every_likely_label(run, exported, data):
    threshold = transferkit.ModelBundle.load(run).confidence.set_threshold(0.9)

    for model in (run, exported):
        for prediction in transferkit.predict(data, model=str(model), sets=0.9, top_k=3):
            likely = tuple(label for label, p in prediction.top if p >= threshold)
            assert prediction.set == likely
        with pytest.raises(OptionError, match=r"--sets: 24 validation images .* at most 0.96,"):
            transferkit.predict(data, model=str(model), sets=0.99)


def test_predict__has_no_sets_unless_asked(run, data):
    assert {p.set for p in transferkit.predict(data, model=str(run))} == {None}


def test_predict__says_what_an_accuracy_costs(run, data, cli):
    ran = cli("predict", data, "-m", run, "--accuracy", "0.5", "--format", "csv")

    assert "--accuracy 0.5: answers from a confidence of" in " ".join(ran.err.split())
    assert "of 24 validation images" in " ".join(ran.err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accuracy": 0.9, "min_confidence": 0.5}, "leave out --min-confidence"),
        ({"accuracy": 0.9, "model": None}, "--accuracy needs a model whose confidence was"),
        ({"sets": 0.9, "model": None}, "--sets needs a model whose confidence was"),
        ({"accuracy": 0.9, "tta": True}, "--accuracy rests on confidences .* without --tta"),
        ({"sets": 0.9, "tta": True}, "--sets rests on confidences .* without --tta"),
    ],
)
def test_predict__refuses_options_that_contradict_each_other(run, data, options, message):
    with pytest.raises(OptionError, match=message):
        transferkit.predict(data, **{"model": str(run), **options})


def test_predict__of_a_model_without_a_measured_confidence(run, data, tmp_path):
    shutil.copytree(run / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    del config["transferkit"]["confidence"], config["transferkit"]["usual_images"]
    (tmp_path / "model/config.json").write_text(json.dumps(config))

    plain = transferkit.predict(data, model=str(tmp_path / "model"))
    assert {(p.unusual, p.unusual_score) for p in plain} == {(None, None)}
    for options in ({"accuracy": 0.9}, {"sets": 0.9}):
        with pytest.raises(OptionError, match="does not say what its confidence is worth"):
            transferkit.predict(data, model=str(tmp_path / "model"), **options)


@pytest.mark.parametrize("name", ["confidence.json", "usual_images.safetensors"])
def test_predict__refuses_a_model_whose_files_are_damaged(run, data, tmp_path, name):
    shutil.copytree(run / "model", tmp_path / "model")
    (tmp_path / "model" / name).write_text("{")

    with pytest.raises(BundleError, match=f"{name}: cannot be read .*train the model again"):
        transferkit.predict(data, model=str(tmp_path / "model"))


def test_finetune__writes_the_metrics_of_calibrated_probabilities(run):
    metrics = json.loads((run / "metrics.json").read_text())
    table = read_probabilities(run / "val_predictions.npz")
    labels, probabilities = table.labels, table.probabilities

    assert metrics["val"]["log_loss"] == pytest.approx(log_loss(labels, probabilities))
    assert metrics["val"]["ece"] == pytest.approx(expected_calibration_error(labels, probabilities))
    assert metrics["answering"][0]["n"] == 24
    assert metrics["answering"][0]["accuracy"] == metrics["val"]["accuracy"]
    calibration = metrics["calibration"]
    assert calibration["before"]["log_loss"] >= metrics["val"]["log_loss"]


def test_export__in_int8_leaves_the_scores_nearly_as_they_were(data, tmp_path):
    run = tmp_path / "run"
    transferkit.finetune(data, run, val_fraction=0.4, report=False, **SMALL, **KINDS["network"])
    small = transferkit.export(run, tmp_path / "int8.onnx", quantize="int8", max_drop=1)

    expected = transferkit.predict(data, model=str(run))
    found = transferkit.predict(data, model=str(small.output))

    gaps = np.abs([a.unusual_score - b.unusual_score for a, b in zip(found, expected, strict=True)])
    assert 0 < gaps.max() < 0.05
