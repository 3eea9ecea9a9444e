"""Features and a classifier: two commands do the same, and the run is like any other."""

import json
import shutil

import numpy as np
import pytest
import skops.io
from image_files import make_classes
from tiny_backbone import TINY

import transferkit
from transferkit.bundle import FeatureHead
from transferkit.classifiers import Classifier
from transferkit.classifiers.fitting import fit_classifier
from transferkit.errors import BundleError, DataError, OptionError, WeightsError
from transferkit.models.feature_extractor import Pool

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "workers": 1}
FEATURES = {**SMALL, "strategy": "features"}


@pytest.fixture(scope="module")
def run(image_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "run"
    transferkit.finetune(
        image_folder, folder, classifier="svm", layer=("stage2", "pooled"), **FEATURES
    )
    return folder


def test_features__leaves_a_run_with_a_classifier_and_no_head(run):
    metrics = json.loads((run / "metrics.json").read_text())
    options = json.loads((run / "options.json").read_text())
    config = json.loads((run / "model" / "config.json").read_text())

    assert sorted(p.name for p in (run / "model").iterdir()) == [
        "README.md", "classifier.skops", "confidence.json", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert config["num_classes"] == 0
    assert config["label_names"] == ["blue", "green", "red"]
    features = config["transferkit"]["features"]
    assert (features["layers"], features["pool"]) == (["stage2", "pooled"], "auto")
    assert config["transferkit"]["classifier"] == options["classifier"] == "svm"
    assert (options["layer"], options["pool"]) == (["stage2", "pooled"], "auto")
    assert metrics["val"]["accuracy"] == 1.0
    assert metrics["val"]["accuracy_interval"]["method"] == "wilson"
    assert metrics["trainable_parameters"] == 0
    assert metrics["frozen"]["unchanged"]
    tried = metrics["classifier"]["cross_validation"]["tried"]
    assert len(tried) == 21
    assert metrics["classifier"]["cross_validation"]["n"] == metrics["train"]["n"] == 18
    assert metrics["classifier"]["cross_validation"]["accuracy"] == max(
        row["accuracy"] for row in tried
    )


@pytest.mark.parametrize("kind", Classifier)
def test_predict__equals_scikit_learn_on_the_extracted_rows(few_images, tmp_path, kind):
    transferkit.finetune(few_images, tmp_path / "run", classifier=kind, **FEATURES)
    transferkit.extract_features(few_images, tmp_path / "f.npz", model=str(tmp_path / "run"))
    with np.load(tmp_path / "f.npz") as file:
        rows, paths = file["features"], file["paths"].tolist()
    trusted = skops.io.get_untrusted_types(file=tmp_path / "run" / "model" / "classifier.skops")
    own = skops.io.load(tmp_path / "run" / "model" / "classifier.skops", trusted=trusted)

    predictions = transferkit.predict(
        [str(few_images / path) for path in paths], model=str(tmp_path / "run"), top_k=3
    )

    names = ["blue", "green", "red"]
    predicted = [[dict(p.top)[name] for name in names] for p in predictions]
    assert np.array_equal(np.array(predicted), own.predict_proba(rows))
    bundle = transferkit.ModelBundle.load(tmp_path / "run")
    asked = bundle.predict_proba([few_images / path for path in paths])
    assert np.array_equal(asked, np.float32(predicted))


def test_features__are_the_same_by_both_commands(image_folder, tmp_path, cli):
    words = [*TINY, "--classifier", "ridge", "--layer", "stage2", "--pool", "max"]
    one = cli("finetune", image_folder, "-o", tmp_path / "a", "--strategy", "features", *words)
    other = cli("extract-features", image_folder, "-o", tmp_path / "b", *words)

    assert (one.code, other.code) == (0, 0)
    assert one.out.splitlines()[0] == other.out.splitlines()[0]
    assert one.out.startswith("val accuracy ")
    assert "ridge with alpha" in one.err
    for file in ("model/config.json", "model/classifier.skops", "split.csv"):
        first, second = ((tmp_path / name / file).read_bytes() for name in ("a", "b"))
        assert len(first) == len(second)
    assert (tmp_path / "a/split.csv").read_bytes() == (tmp_path / "b/split.csv").read_bytes()


def test_features__can_be_predicted_and_evaluated_like_any_run(run, image_folder, cli):
    predicted = cli("predict", image_folder / "blue", "-m", run, "--format", "csv")
    measured = cli("evaluate", image_folder, "-m", run)
    again = cli("predict", image_folder / "blue" / "0.png", "-m", run / "model")

    assert (predicted.code, measured.code, again.code) == (0, 0, 0)
    labels = [line.split(",")[2] for line in predicted.out.splitlines()[1:]]
    assert labels == ["blue"] * 8
    assert json.loads(measured.out)["accuracy"] > 0.9
    assert json.loads(again.out)["label"] == "blue"


def test_features__of_a_model_have_its_layers(run, image_folder, tmp_path):
    again = transferkit.extract_features(
        image_folder, tmp_path / "again", model=str(run), classifier="ridge"
    )
    config = json.loads((again.run / "model/config.json").read_text())

    features = config["transferkit"]["features"]
    assert (features["layers"], features["pool"]) == (["stage2", "pooled"], "auto")


def test_features__record_only_options_that_apply(run):
    options = json.loads((run / "options.json").read_text())

    assert not {"epochs", "learning_rate", "optimizer", "augment"} & set(options)
    assert {"layer", "classifier", "val_fraction", "class_weights"} < set(options)


def test_finetune__builds_a_network_with_the_patches_too(image_folder, tmp_path):
    transferkit.finetune(image_folder, tmp_path / "run", backbone="edges8", patches=2, epochs=1)

    config = json.loads((tmp_path / "run/model/config.json").read_text())
    assert config["model_args"] == {"patches": 2}
    assert config["num_features"] == 32


def test_features__dry_run_shows_the_plan_and_writes_nothing(image_folder, tmp_path, cli):
    ran = cli(
        "finetune", image_folder, "-o", tmp_path / "run", *TINY, "--strategy", "features",
        "--classifier", "knn", "--dry-run",
    )  # fmt: skip

    assert ran.code == 0
    assert (
        "features of pooled" in ran.out.replace("  ", " ") or "of pooled, pooled by auto" in ran.out
    )
    assert "knn, the best of" in ran.out
    assert not (tmp_path / "run").exists()


def test_features__edges8_needs_no_download(image_folder, tmp_path):
    result = transferkit.finetune(
        image_folder, tmp_path / "run", backbone="edges8", patches=2, strategy="features",
        classifier="linear",
    )  # fmt: skip
    config = json.loads((tmp_path / "run/model/config.json").read_text())

    assert result.metrics["classifier"]["features"] == 32
    assert config["model_args"] == {"patches": 2}
    image = next((image_folder / "red").iterdir())
    (prediction,) = transferkit.predict([str(image)], model=str(tmp_path / "run"))
    assert prediction.label in ("blue", "green", "red")


def test_head__gives_probability_zero_to_a_class_without_training_images():
    rows, labels = np.random.default_rng(0).normal(size=(20, 3)), np.repeat([0, 2], 10)
    fitted = fit_classifier(Classifier.LINEAR, rows, labels, seed=0).estimator
    head = FeatureHead(fitted, ("pooled",), Pool.AUTO)

    probabilities = head.predict_proba(rows.astype(np.float32), 4)

    assert np.array_equal(probabilities[:, [1, 3]], np.zeros((20, 2)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert head.predict_proba(rows[:0].astype(np.float32), 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3}, "--epochs: --strategy features trains no network"),
        ({"unfreeze": "last:1"}, "--unfreeze: --strategy features trains no network"),
        ({"learning_rate": "auto"}, "--lr: --strategy features trains no network"),
        ({"pool": "none"}, "--pool none: gives feature maps"),
        ({"patches": 2}, "--patches is for -b edges8, not for test_resnet"),
        ({"classifier": "knn", "class_weights": "balanced"}, "knn does not weight classes"),
    ],
)
def test_features__refuse_options_that_cannot_work(image_folder, tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        transferkit.finetune(image_folder, tmp_path / "run", **FEATURES, **options)
    assert not (tmp_path / "run").exists()


def test_features__a_stopped_run_resumes_with_the_same_weights_only(run, image_folder, tmp_path):
    def stop(run):
        raise KeyboardInterrupt

    options = {"classifier": "svm", "layer": ("stage2", "pooled"), **FEATURES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transferkit.recipes.finetuning.fit_classifier._compute_features", stop)
        with pytest.raises(KeyboardInterrupt):
            transferkit.finetune(image_folder, tmp_path / "run", **options)
    recorded = (tmp_path / "run/options.json").read_text()
    other = {**json.loads(recorded), "weights_sha256": "0" * 64}
    (tmp_path / "run/options.json").write_text(json.dumps(other))
    with pytest.raises(WeightsError, match="began with other weights of test_resnet"):
        transferkit.finetune(image_folder, tmp_path / "run", resume=True)
    (tmp_path / "run/options.json").write_text(recorded)
    transferkit.finetune(image_folder, tmp_path / "run", resume=True)

    for file in ("model/model.safetensors", "split.csv", "val_predictions.npz"):
        assert (tmp_path / "run" / file).read_bytes() == (run / file).read_bytes()


def test_extract_features__refuses_a_classifiers_options_without_one(image_folder, tmp_path):
    with pytest.raises(OptionError, match="--val-fraction needs a --classifier"):
        transferkit.extract_features(image_folder, tmp_path / "f.npz", val_fraction=0.3)


def test_features__of_too_few_images_replace_no_earlier_run(run, tmp_path):
    make_classes(tmp_path / "data", 2)
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(DataError, match="cross-validation needs 2"):
        transferkit.finetune(
            tmp_path / "data", tmp_path / "run", classifier="svm", overwrite=True, **FEATURES
        )
    assert (tmp_path / "run/model/classifier.skops").exists()


def damaged_copy(run, tmp_path, name: str, change):
    shutil.copytree(run, tmp_path / "copy")
    path = tmp_path / "copy" / "model" / name
    change(path)
    return tmp_path / "copy"


def test_load__of_a_missing_or_foreign_classifier_is_an_error(run, image_folder, tmp_path):
    copy = damaged_copy(run, tmp_path, "classifier.skops", lambda path: path.unlink())
    with pytest.raises(BundleError, match=r"classifier\.skops: no such file"):
        transferkit.predict([str(image_folder)], model=str(copy))

    result = transferkit.finetune(image_folder, tmp_path / "other", classifier="linear", **FEATURES)
    foreign = result.run / "model" / "classifier.skops"
    (copy / "model" / "classifier.skops").write_bytes(foreign.read_bytes())
    with pytest.raises(BundleError, match="the files do not belong together"):
        transferkit.predict([str(image_folder)], model=str(copy))


def test_load__of_damaged_features_in_the_config_is_an_error(run, image_folder, tmp_path):
    def change_pool(path):
        config = json.loads(path.read_text())
        config["transferkit"]["features"] = {"layers": ["stage2"], "pool": "sideways"}
        path.write_text(json.dumps(config))

    copy = damaged_copy(run, tmp_path, "config.json", change_pool)
    with pytest.raises(BundleError, match="expected layers, pool and temperature"):
        transferkit.predict([str(image_folder)], model=str(copy))
    path = copy / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"transferkit": None}))
    with pytest.raises(BundleError, match=r"transferkit in config\.json must be a table"):
        transferkit.predict([str(image_folder)], model=str(copy))
