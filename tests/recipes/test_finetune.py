"""Whole runs on tiny images: they learn, write their files and are reproducible."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from image_files import make_classes, save_image
from safetensors.torch import load_file
from simulated import direction

import transferkit
from transferkit.errors import EngineError, OptionError, TransferKitError
from transferkit.options.finetune import FinetuneOptions
from transferkit.reporter import EpochRow

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_finetune__leaves_exactly_the_files_of_a_run(run_folder):
    files = sorted(p.relative_to(run_folder).as_posix() for p in run_folder.rglob("*"))

    assert files == [
        "history.csv",
        "metrics.json",
        "model",
        "model/README.md",
        "model/confidence.json",
        "model/config.json",
        "model/model.safetensors",
        "options.json",
        "plan.json",
        "skipped.csv",
        "split.csv",
        "val_predictions.npz",
    ]


def test_finetune__learns_colours(run_folder):
    metrics = json.loads((run_folder / "metrics.json").read_text())
    history = read_csv(run_folder / "history.csv")

    assert metrics["val"]["accuracy"] >= 0.8
    assert metrics["val"]["n"] == 6
    assert metrics["majority_baseline"] == pytest.approx(1 / 3)
    assert metrics["trainable_parameters"] == metrics["total_parameters"] > 100_000
    assert metrics["images_per_second"] > 0
    assert set(metrics["val"]["per_class"]) == {"blue", "green", "red"}
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])


def test_finetune__writes_a_history_with_the_documented_columns(run_folder):
    history = read_csv(run_folder / "history.csv")

    assert ",".join(history[0]) == (
        "epoch,phase,train_loss,train_accuracy,val_loss,val_accuracy,lr_head,lr_backbone,seconds"
    )
    assert [row["epoch"] for row in history] == ["1", "2", "3", "4"]
    assert {row["phase"] for row in history} == {"all"}
    assert 2.5e-3 < float(history[0]["lr_head"]) <= 3e-3
    assert 0 < float(history[-1]["lr_head"]) < 1e-3


def test_finetune__keeps_the_best_epoch(run_folder):
    metrics = json.loads((run_folder / "metrics.json").read_text())
    history = read_csv(run_folder / "history.csv")
    best = max(history, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))

    assert metrics["val"]["accuracy"] == float(best["val_accuracy"])
    before = metrics["calibration"]["before"]
    assert before["log_loss"] == pytest.approx(float(best["val_loss"]))
    assert metrics["val"]["log_loss"] <= before["log_loss"]
    assert metrics["train"]["epoch"] == int(best["epoch"])


def test_finetune__writes_a_split_with_every_images_digest(run_folder, image_folder):
    from transferkit.files import file_digest

    rows = read_csv(run_folder / "split.csv")

    assert list(rows[0]) == ["path", "label", "split", "sha256", "group"]
    assert [row["path"] for row in rows] == sorted(
        p.relative_to(image_folder).as_posix() for p in image_folder.rglob("*.png")
    )
    assert [row["split"] for row in rows].count("val") == 6
    assert all(row["label"] == row["path"].split("/")[0] for row in rows)
    assert all(file_digest(image_folder / row["path"]) == row["sha256"] for row in rows)


def test_finetune__records_every_resolved_option(run_folder):
    options = json.loads((run_folder / "options.json").read_text())

    assert options["backbone"] == "test_resnet"
    assert options["backbone_learning_rate"] == 3e-3
    assert options["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert len(options["weights_sha256"]) == len(options["data_sha256"]) == 64
    assert {k: options[k] for k in ("device", "precision", "image_size", "resize")} == {
        "device": "cpu",
        "precision": "fp32",
        "image_size": 32,
        "resize": "crop",
    }
    assert options["workers"] >= 1
    assert options["output"] == str(run_folder)
    assert set(FinetuneOptions.__dataclass_fields__) < set(options)
    unused = {"val", "split", "group_by", "groups", "pool", "patches", "classifier", "budget"}
    of_tables = {"path_column", "label_column", "split_column", "group_column", "root"}
    none = {k for k, v in options.items() if v is None}
    assert none == unused | of_tables | {"processes", "decisions"}
    assert options["layer_decay"] == 1
    assert options["learning_rates"]["head"] == options["learning_rates"]["stem"] == 3e-3
    assert options["bn"] == "train"
    assert options["freeze_epochs"] == 0


def test_finetune__writes_no_metadata_of_the_published_model(run_folder):
    config = json.loads((run_folder / "model/config.json").read_text())
    names = ("metrics.json", "model/config.json", "model/model.safetensors")

    assert config["label_names"] == ["blue", "green", "red"]
    assert not {"tag", "license", "origin_url", "test_input_size"} & set(config["pretrained_cfg"])
    assert len({(run_folder / name).stat().st_mode for name in names}) == 1


@pytest.fixture(scope="module")
def result(image_folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "r"
    return transferkit.finetune(image_folder, run, epochs=2, unfreeze="last:1", seed=3, **SMALL)


def test_finetune__repeats_with_the_seed_for_any_number_of_workers(result, image_folder, tmp_path):
    again = transferkit.finetune(
        image_folder, tmp_path, epochs=2, unfreeze="last:1", seed=3, workers=1, **SMALL
    )
    first, second = (load_file(r.run / "model/model.safetensors") for r in (result, again))

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert np.array_equal(result.val_probabilities, again.val_probabilities)


def test_finetune__differs_with_another_seed(result, image_folder, tmp_path):
    other = transferkit.finetune(
        image_folder, tmp_path, epochs=2, unfreeze="last:1", seed=4, **SMALL
    )

    assert other.history[0].train_loss != result.history[0].train_loss


def test_predict__repeats_the_runs_own_validation_probabilities(result, image_folder):
    paths = [str(image_folder / path) for path in result.val_paths]

    predictions = transferkit.predict(paths, model=str(result.run), top_k=3, batch_size=6)

    names = transferkit.ModelBundle.load(result.run).class_names
    got = [[dict(p.top)[name] for name in names] for p in predictions]
    # Each of them at the temperature of its own fold.
    np.testing.assert_allclose(
        direction(np.array(got)), direction(result.val_probabilities), atol=1e-5
    )


def test_bundle__gives_bit_equal_logits_in_timm(result):
    theirs = timm.create_model(f"local-dir:{result.run}/model", pretrained=True).eval()
    ours = transferkit.ModelBundle.load(result.run).network.module
    images = torch.randn(2, 3, 32, 32)

    with torch.no_grad():
        assert torch.equal(theirs(images), ours(images))
    assert theirs.pretrained_cfg["label_names"] == ["blue", "green", "red"]
    assert theirs.pretrained_cfg["input_size"][1:] in ([32, 32], (32, 32))


def test_finetune__partial_leaves_frozen_stages_unchanged(result):
    torch.manual_seed(3)
    from transferkit.models.create_network import create_network

    fresh = create_network("test_resnet", weights="none", num_classes=3, image_size=32)
    before = fresh.module.state_dict()
    after = load_file(result.run / "model/model.safetensors")
    frozen = [k for k in before if not k.startswith(("layer4.", "fc."))]

    assert len(frozen) > 20
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["fc.weight"], after["fc.weight"])
    assert result.history[0].phase == "last:1"
    assert result.history[0].lr_backbone == result.history[0].lr_head > 0


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("torchvision:squeezenet1_1", 64),
        ("torchvision:mnasnet0_5", 64),  # expects version metadata that plain tensors lack
        ("test_vit", None),
        ("eva02_tiny_patch14_224", 56),  # comes without a head
        ("levit_128s", None),  # its head begins with a norm
        ("deit_tiny_distilled_patch16_224", 32),  # has two heads
        ("coat_tiny", 32),  # shares tensors
        ("poolformer_s12", 64),  # has no group_matcher
    ],
)
def test_finetune__runs_on_other_architectures(name, size, few_images, tmp_path, estimates):
    options = SMALL | {"backbone": name, "image_size": size}

    result = transferkit.finetune(few_images, tmp_path, epochs=1, **options)

    bundle = transferkit.ModelBundle.load(tmp_path)
    assert bundle.network.name == name
    assert bundle.predict_proba([few_images / "red/0.png"]).sum() == pytest.approx(1)
    assert len(result.history) == 1
    assert result.plan.stages[-1].trainable > 0
    assert result.metrics["frozen"]["tensors"] > 0


def test_finetune__starts_from_the_backbone_of_a_run(result, image_folder, tmp_path):
    options = SMALL | {"backbone": f"local-dir:{result.run}/model", "weights": "pretrained"}

    transferkit.finetune(image_folder, tmp_path, epochs=1, **options)

    first, second = (load_file(r / "model/model.safetensors") for r in (result.run, tmp_path))
    assert torch.equal(first["layer4.0.conv1.weight"], second["layer4.0.conv1.weight"])
    assert not torch.equal(first["fc.weight"], second["fc.weight"])


def test_finetune__dry_run_writes_nothing(image_folder, tmp_path):
    result = transferkit.finetune(image_folder, tmp_path / "run", dry_run=True, **SMALL)

    assert list(tmp_path.iterdir()) == []
    assert result.run is None
    assert [stage.name for stage in result.plan.stages if stage.trainable] == ["head"]


def test_finetune__computes_in_bf16(image_folder, tmp_path):
    result = transferkit.finetune(
        image_folder,
        tmp_path,
        epochs=3,
        strategy="full",
        precision="bf16",
        learning_rate=3e-3,
        **SMALL,
    )
    predictions = transferkit.predict(str(image_folder), model=str(tmp_path), precision="bf16")

    assert result.history[-1].train_loss < result.history[0].train_loss
    assert result.val_probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert result.metrics["val"]["accuracy"] == max(row.val_accuracy for row in result.history)
    assert {p.error for p in predictions} == {None}


def test_finetune__stops_early_if_no_epoch_is_better(image_folder, tmp_path):
    """A rate too small to change anything makes every epoch a tie with the first."""
    result = transferkit.finetune(
        image_folder, tmp_path, epochs=9, patience=2, learning_rate=1e-30, weight_decay=0, **SMALL
    )

    assert len(result.history) == 3


def test_finetune__says_when_the_loss_is_not_finite(image_folder, tmp_path):
    with pytest.raises(TransferKitError, match=r"the training loss became .*; try a lower --lr"):
        transferkit.finetune(
            image_folder, tmp_path, epochs=3, strategy="full", learning_rate=1e30, **SMALL
        )


def test_finetune__trains_if_one_image_is_left_for_the_last_batch(tmp_path):
    """BatchNorm cannot take a batch of one image: 13 training images in batches of 6."""
    data = make_classes(tmp_path / "data", 5)
    for i in (6, 7):
        save_image(data / "red" / f"{i}.png", (200, 50, 40), seed=100 + i)
    (data / "blue" / "4.png").unlink()

    result = transferkit.finetune(
        data, tmp_path / "run", epochs=1, strategy="full", val_fraction=0.01, **SMALL
    )

    assert result.metrics["train"]["n"] == 13
    assert len(result.history) == 1


def test_finetune__reports_its_plan_and_epochs(image_folder, tmp_path):
    from transferkit.recipes.finetune import finetune
    from transferkit.reporter import SilentReporter

    class Recorder(SilentReporter):
        def __init__(self):
            self.plans, self.epochs = [], []

        def plan(self, plan):
            self.plans.append(plan)

        def epoch(self, row, epochs, best):
            self.epochs.append((row, epochs, best))

    recorder = Recorder()
    options = FinetuneOptions(image_folder, tmp_path, epochs=2, **SMALL)
    result = finetune(options, recorder)

    assert recorder.plans == [result.plan]
    assert [row for row, _, _ in recorder.epochs] == list(result.history)
    assert recorder.epochs[0][1:] == (2, True)
    assert isinstance(result.history[0], EpochRow)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg19", "densenet121", "convnext_tiny", "resnet18"])
def test_finetune__serves_four_families_from_end_to_end(name, tmp_path):
    """Finetune, evaluate, predict and extract, from random weights on the sample data."""
    data = Path(__file__).parents[2] / "sample_data" / "cats"
    run = tmp_path / "run"

    transferkit.finetune(
        data, run, backbone=name, weights="none", strategy="full", epochs=1, image_size=64
    )
    metrics = transferkit.evaluate(data, str(run))
    predictions = transferkit.predict([str(data / "Bengal")], model=str(run))
    transferkit.extract_features(data, tmp_path / "f.npz", model=str(run))
    with np.load(tmp_path / "f.npz") as table:
        features = table["features"]

    assert metrics["n"] == 150
    assert len(predictions) == 30
    width = {"vgg19": 512, "densenet121": 1024, "convnext_tiny": 768, "resnet18": 512}[name]
    assert features.shape == (150, width)
    assert np.isfinite(features).all()


def test_finetune__real_weights_beat_random_ones(shared, tmp_path):
    """On some real cats: two epochs on frozen ImageNet features, and on frozen random ones."""
    data = tmp_path / "cats"
    for breed in ("Bengal", "Persian", "Sphynx"):
        (data / breed).mkdir(parents=True)
        for path in sorted((shared / "data/cats" / breed).iterdir())[:30]:
            (data / breed / path.name).symlink_to(path)
    accuracy = {}
    for weights in ("pretrained", "none"):
        options = {"weights": weights, "image_size": 112, "epochs": 2, "learning_rate": 1e-2}
        result = transferkit.finetune(data, tmp_path / weights, **options)
        accuracy[weights] = result.metrics["val"]["accuracy"]

    assert accuracy["pretrained"] >= 0.85
    assert accuracy["none"] <= 0.7


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_finetune__on_an_engine_is_the_same_with_and_without_a_cache(few_images, tmp_path, engine):
    runs = {
        cache: transferkit.finetune(
            few_images, tmp_path / cache, backbone="test_resnet", weights="none", image_size=32,
            epochs=2, batch_size=5, engine=engine, cache=cache,
        )
        for cache in ("off", "disk")
    }  # fmt: skip

    weights = [(run.run / "model/model.safetensors").read_bytes() for run in runs.values()]
    assert weights[0] == weights[1]
    assert dict(runs["off"].plan.settings)["engine"].startswith(f"{engine} ")
    options = json.loads((tmp_path / "disk/options.json").read_text("utf-8"))
    assert options["engine"] == engine


def test_engine__auto_is_openvino_for_many_images_alone(few_images, tmp_path, monkeypatch):
    def engine_of(**options):
        plan = transferkit.finetune(
            few_images, backbone="test_resnet", weights="none", image_size=32, dry_run=True,
            **options,
        ).plan  # fmt: skip
        return dict(plan.settings).get("engine", "").split(" ")[0]

    assert engine_of() == "torch"
    assert engine_of(strategy="full") == ""
    monkeypatch.setattr("transferkit.recipes.shared.compute_settings._WORTH_CONVERTING", -100)
    assert engine_of() == "openvino"
    assert engine_of(strategy="features", classifier="linear") == "openvino"
    assert engine_of(engine="torch") == "torch"


def test_engine__for_features_is_within_1e_5_of_torch(few_images, tmp_path):
    tables = []
    for engine in ("torch", "openvino", "onnxruntime"):
        file = tmp_path / f"{engine}.npz"
        transferkit.extract_features(
            few_images, file, backbone="test_resnet", weights="none", image_size=32, engine=engine
        )
        tables.append(np.load(file)["features"])

    for other in tables[1:]:
        gaps = np.linalg.norm(other - tables[0], axis=1)
        assert (gaps < 1e-5 * np.linalg.norm(tables[0], axis=1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnxruntime", "precision": "bf16"}, "onnxruntime computes in fp32, got"),
        ({"engine": "tensorrt"}, "--engine"),
    ],
)
def test_engine__refuses_what_it_cannot_do(few_images, options, message):
    with pytest.raises(OptionError, match=message):
        transferkit.finetune(
            few_images, backbone="test_resnet", weights="none", dry_run=True, **options
        )


def test_engine__that_is_not_installed_is_an_error(few_images, monkeypatch):
    monkeypatch.setattr("transferkit.engines.runtimes.find_spec", lambda name: None)

    with pytest.raises(EngineError, match=r"not installed; install .*transferkit\[onnxruntime\]"):
        transferkit.finetune(
            few_images, backbone="test_resnet", weights="none", dry_run=True, engine="onnxruntime"
        )
