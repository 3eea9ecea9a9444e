"""The page of a run, from made-up predictions: its content, its size, and in a browser."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from transferkit.metrics import doubtful_labels, majority_baseline, summarize
from transferkit.report.feature_map import project
from transferkit.report.page import write_page
from transferkit.report.run_page import RunReport, ShownImage, run_page
from transferkit.report.thumbnails import thumbnail
from transferkit.reporter import EpochRow, LeftOut, PhaseRow, Plan, StageRow
from transferkit.tables.probabilities import ProbabilityTable

SCRIPT = "<script>alert(1)</script>"
NAMES = (SCRIPT, "b & c", "d", "'e' \"f\"", "<img src=x onerror=alert(2)>")


def noise(seed: int) -> str:
    """Return a thumbnail of noise, the worst case for compression."""
    pixels = np.random.default_rng(seed).integers(0, 256, (176, 176, 3), dtype=np.uint8)
    return thumbnail(Image.fromarray(pixels))


def history(count: int) -> tuple[EpochRow, ...]:
    phases = ["head", "last:1", "all"]
    return tuple(
        EpochRow(i + 1, phases[min(i, 2)], 1 / (i + 1), 0.5, 1 / (i + 2), 0.6, 1e-3, 1e-4 * i, 2.0)
        for i in range(count)
    )


def made_up(names=NAMES, count=60, epochs=6) -> RunReport:
    """Return the report of a mediocre model on `count` images."""
    random = np.random.default_rng(7)
    labels = np.sort(np.arange(count) % len(names))
    logits = random.normal(0, 1, (count, len(names))) + 2 * np.eye(len(names))[labels]
    odds = np.exp(logits)
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    paths = tuple(f"{SCRIPT}/{i}.jpg" for i in range(count))
    shown = [
        ShownImage(paths[i], names[labels[i]], names[0], 0.9, 0.05, noise(i), noise(100 + i))
        for i in range(12)
    ]
    plan = Plan(
        settings=(("data", SCRIPT), ("input", "224 px"), ("copies", f"{SCRIPT} twice")),
        classes={name: (8, int((labels == i).sum()), 0) for i, name in enumerate(names)},
        left_out=(LeftOut(f"{SCRIPT}/bad.jpg", "truncated", unreadable=True),),
        stages=(StageRow("head", (SCRIPT,), 10, 10, 1e-3, 1),),
        phases=(PhaseRow("head", (1, 1), 10), PhaseRow("all", (2, 6), 10)),
    )
    metrics = {
        "val": summarize(labels, probabilities, names),
        "train": {"accuracy": 0.9, "epoch": 3},
        "calibration": {"temperature": 0.6, "folds": 5, "before": {"log_loss": 1.0, "ece": 0.25}},
        "majority_baseline": majority_baseline(labels, labels),
        "trainable_parameters": 10,
        "total_parameters": 10,
        "images_per_second": 123.4,
        "frozen": {"tensors": 3},
        "time": {"training": 75.0, "report": 9.0, "other": 1.0},
    }
    options = {
        "strategy": "gradual", "backbone": SCRIPT, "label_smoothing": 0.1, "device": "cpu",
        "precision": "fp32", "seed": 0, "versions": {"torch": "2"}, "weights_sha256": "ab" * 32,
        "data_sha256": "cd" * 32, "classifier": None,
    }  # fmt: skip
    rows = np.arange(min(count, 1000))
    features = random.normal(0, 1, (len(rows), 16)).astype(np.float32)
    return RunReport(
        run=f"runs/{SCRIPT}", data=SCRIPT, options=options, metrics=metrics, plan=plan,
        history=history(epochs),
        predictions=ProbabilityTable(paths, labels, names, probabilities),
        mistakes=shown, mistaken=20, suspects=shown,
        suspected=len(doubtful_labels(labels, probabilities)),
        unusual=[replace(one, unusual_score=0.5 - 0.02 * i) for i, one in enumerate(shown[:8])],
        usual_threshold=0.42,
        feature_map=project(rows, features), notes={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    return run_page(made_up())


class Elements(HTMLParser):
    """The elements of a page, its text, and the addresses it loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        assert not [name for name in values if name.startswith("on")]
        self.loaded += [values[name] for name in ("src", "href", "xlink:href") if values.get(name)]

    def handle_data(self, data):
        self.text += data


def test_run_page__shows_malicious_names_as_text(page):
    found = Elements(page)

    assert "script" not in found.tags
    assert f"runs/{SCRIPT}" in found.text
    assert found.text.count(SCRIPT) > 20
    assert "<img src=x" not in page
    assert all(place[:1] == "#" or place[:5] == "data:" for place in found.loaded)


def test_run_page__loads_nothing(page):
    assert "default-src 'none'" in page
    assert not re.findall(r"url\((?!#)|@import|<link(?! rel=\"icon\")|<iframe|<object", page)


def test_run_page__describes_the_run(page):
    text = " ".join(Elements(page).text.split())

    for shown in (
        "Most confident mistakes", "Likely label errors", "Reliability", "Confusion matrix",
        "validation accuracy", "95 % Wilson interval", "123 training images per second",
        "1 min 15 s", "1 left out", "truncated", "last backbone stage", "from epoch",
        "0.250 before its logits were divided by a temperature of 0.60", "When to answer",
        "accuracy of the answers", "unusual if its score is above 0.420", "score 0.500 (unusual)",
        "another class at least 3 times as probable as the label",
        "Verified: 3 frozen tensors", "transferkit predict IMAGE... -m 'runs/<script>",
    ):  # fmt: skip
        assert shown in text, shown
    assert "9.0 s" not in text  # the page's own time is unknown while it is drawn


def test_run_page__is_the_same_every_time(page):
    assert run_page(made_up()) == page


def test_run_page__of_a_hundred_classes_shows_pairs_a_picture_and_the_weakest():
    names = tuple(f"class {i:03}" for i in range(100))
    page = run_page(made_up(names, 1000))
    found = Elements(page)

    assert "Most frequent mistakes" in page
    assert 'class="heat"' in page
    assert "The 15 classes with the lowest F1." in page
    assert "All 100 classes" in page
    assert found.tags.count("td") < 2000
    assert "other classes" in page


def test_run_page__of_a_thousand_images_is_small():
    """The worst case: each thumbnail is noise, and every image is on the map."""
    size = len(run_page(made_up(tuple(f"c{i}" for i in range(100)), 1000)).encode())

    assert 200_000 < size < 3_000_000


def test_run_page__has_rates_for_one_epoch_and_the_search_for_a_classifier():
    one = run_page(made_up(epochs=1))
    none = replace(made_up(epochs=0), notes={"map": "no map"}, feature_map=None)
    none.metrics["classifier"] = {
        "kind": "svm", "settings": {"C": 0.1, "kernel": "rbf"}, "features": 512,
        "cross_validation": {
            "accuracy": 0.5, "n": 40, "folds": 5, "accuracy_interval": {"low": 0.4, "high": 0.6},
            "tried": [{"C": 1.0, "kernel": "rbf", "accuracy": 0.5},
                      {"C": 0.1, "kernel": "rbf", "accuracy": 0.5}],
        },
    }  # fmt: skip
    text = " ".join(Elements(run_page(none)).text.split())

    assert "Learning rates" in one
    assert "Learning rates" not in text
    assert "no map" in text
    assert "C 0.1, kernel rbf (chosen)0.500 C 1, kernel rbf0.500" in text


def test_run_page__without_mistakes_says_so():
    perfect = replace(made_up(), mistakes=[], mistaken=0, suspects=[], suspected=0)
    text = Elements(run_page(perfect)).text

    assert "every validation image was classified correctly" in text
    assert "None found among the validation images" in text


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_run_page__opens_without_error_request_or_overflow(browser, tmp_path, width, scheme):
    """Open a page of few classes with long names, and one of many classes."""
    long = ("a_name_that_is_quite_long_and_has_no_break_at_all_" * 2, *NAMES)
    for names, count in ((long, 60), (tuple(f"class {i:03}" for i in range(100)), 400)):
        file = tmp_path / "report.html"
        write_page(file, run_page(made_up(names, count)))
        messages, requested = [], []
        view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        view.on("console", lambda message, messages=messages: messages.append(message.text))
        view.on("pageerror", lambda error, messages=messages: messages.append(str(error)))
        view.on("request", lambda request, requested=requested: requested.append(request.url))
        view.goto(file.as_uri())
        wide = view.evaluate("document.documentElement.scrollWidth")
        broken = view.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
        dark = view.evaluate("getComputedStyle(document.body).backgroundColor")
        axis = view.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
        view.close()

        assert messages == []
        assert [url for url in requested if not url.startswith("data:")] == [file.as_uri()]
        assert wide <= width
        assert broken == 0
        assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
        assert (axis == "rgb(89, 99, 110)") == (scheme == "light")
