"""The card of a model: a header that hubs read, figures of the run, and how others open it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import transformers
from huggingface_hub import ModelCard
from PIL import Image

import transferkit
from transferkit.bundle import ModelBundle
from transferkit.report.model_card import model_card
from transferkit.run.record import read_run


@pytest.fixture(scope="module")
def run(run_folder):
    return read_run(run_folder), ModelBundle.load(run_folder)


def test_card__lies_in_the_model_folder_of_a_run(run_folder, run):
    text = (run_folder / "model/README.md").read_text(encoding="utf-8")

    assert text == model_card(*run)
    assert "transferkit predict photo.jpg -m FOLDER" in text
    assert str(run_folder.parent) not in text


def test_card__has_a_header_that_the_hubs_client_reads(run):
    record, _ = run
    data = ModelCard(model_card(*run)).data
    figures = {(one.dataset_split, one.metric_type): one.metric_value for one in data.eval_results}

    assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")
    assert figures == {
        ("val", "accuracy"): record.metrics["val"]["accuracy"],
        ("val", "f1"): record.metrics["val"]["macro_f1"],
    }


def test_card__shows_figures_of_the_run_and_its_classes(run):
    record, _ = run
    metrics, text = record.metrics["val"], model_card(*run)
    low, high = metrics["accuracy_interval"]["low"], metrics["accuracy_interval"]["high"]

    assert f"| {metrics['accuracy']:.3f} ({low:.3f} to {high:.3f}) |" in text
    for name, (train, val, _) in record.plan.classes.items():
        assert f"| {name} | {train} | {val} | 0 |" in text
    assert record.options["data_sha256"] in text


def test_card__says_what_the_test_part_is(run):
    record, bundle = run
    metrics = {**record.metrics, "test": {**record.metrics["val"], "accuracy": 0.125}}
    text = model_card(replace(record, metrics=metrics), bundle)

    assert "|  | validation | test |" in text
    assert ") | 0.125 (" in text
    assert "nothing was chosen by those of the test part" in text


@pytest.mark.parametrize(
    ("licence", "told"), [("mit", "weights is mit."), ("", "weights is not known to transferkit")]
)
def test_card__tells_the_licence_of_the_weights(run, licence, told):
    record, bundle = run
    network = replace(bundle.network, config={**bundle.network.config, "license": licence})
    card = ModelCard(model_card(record, replace(bundle, network=network)))

    assert told in card.text
    assert card.data.license == (licence or None)


def test_card__shows_odd_names_as_they_are_and_folds_many_classes(run):
    record, bundle = run
    odd = {"a|b <i> *c*": (1, 1, 0), **{f"class {i}": (1, 1, 0) for i in range(60)}}
    text = model_card(replace(record, plan=replace(record.plan, classes=odd)), bundle)

    assert r"| a\|b \<i\> \*c\* | 1 | 1 | 0 |" in text
    assert "<details><summary>61 classes</summary>" in text


def test_card__of_a_classifier_names_no_library_that_cannot_open_it(image_folder, tmp_path):
    transferkit.finetune(
        image_folder, tmp_path / "run", backbone="edges8", strategy="features", classifier="ridge"
    )
    card = ModelCard.load(tmp_path / "run/model/README.md")

    assert card.data.library_name == "transferkit"
    assert "strategy features with ridge" in card.text
    assert "import timm" not in card.text
    assert "transformers" not in card.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_folder__opens_in_timm_and_transformers_with_the_scores_of_predict(
    run_folder, image_folder
):
    home = str(run_folder / "model")
    names = json.loads((run_folder / "model/config.json").read_text())["label_names"]
    files = sorted(image_folder.rglob("*.png"))
    images = [Image.open(file).convert("RGB") for file in files]
    predicted = transferkit.predict(list(map(str, files)), model=home)
    ours = [[dict(one.top)[name] for name in names] for one in predicted]

    classify = transformers.pipeline("image-classification", model=home, top_k=len(names))
    scores = [{one["label"]: one["score"] for one in found} for found in classify(images)]
    np.testing.assert_allclose([[one[name] for name in names] for one in scores], ours, atol=1e-5)

    model = timm.create_model(f"local-dir:{home}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.no_grad():
        table = model(torch.stack(list(map(transform, images)))).softmax(dim=1)
    np.testing.assert_allclose(table.numpy(), ours, atol=1e-5)
