"""What is chosen for a number of minutes, by paces that the test sets."""

import json

import pytest
from image_files import COLOURS, save_image

import transferkit
from transferkit.devices import Cache
from transferkit.errors import OptionError
from transferkit.options.declaration import declared_options
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.finetune import finetune
from transferkit.recipes.finetuning import choose_for_budget
from transferkit.recipes.finetuning.run_in_progress import FinetuneRun
from transferkit.recipes.shared.caches import CacheChoice
from transferkit.reporter import SilentReporter
from transferkit.run.stopwatch import Stopwatch

DRY = {"report": False, "dry_run": True}


class Pace:
    """Made-up seconds per image; a step takes one second for every stage below the head."""

    decode, forward = 0.25, 0.75

    def step(self, phase, cut) -> float:
        return len(phase.trainable) - 1.0


@pytest.fixture(autouse=True)
def made_up_time(monkeypatch):
    """Let no clock run, and every image take the same time."""
    monkeypatch.setattr(choose_for_budget, "pace_of", lambda run: Pace())
    monkeypatch.setattr(Stopwatch, "since_process_began", property(lambda stopwatch: 20.0))
    monkeypatch.setattr(Stopwatch, "start_up", property(lambda stopwatch: 8.0))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Images that are larger than the network's."""
    folder = tmp_path_factory.mktemp("large")
    for name, colour in COLOURS.items():
        for i in range(8):
            save_image(folder / name / f"{i}.png", colour, seed=10 * len(name) + i, size=(240, 200))
    return folder


@pytest.fixture(scope="module")
def backbones(tmp_path_factory, few_images):
    """A pretrained network of any image size, and one of a fixed size."""
    folder = tmp_path_factory.mktemp("backbones")
    for name in ("test_resnet", "test_vit3"):
        transferkit.finetune(
            few_images, folder / name, backbone=name, weights="none", epochs=1, report=False
        )
    return {path.name: f"local-dir:{path}/model" for path in folder.iterdir()}


@pytest.fixture
def chosen(backbones):
    """Return the settings of the plan that a budget leads to."""

    def settings(data, backbone="test_resnet", **options):
        backbone = backbones.get(backbone, backbone)
        plan = transferkit.finetune(data, backbone=backbone, **DRY | options).plan
        return dict(plan.settings)

    return settings


@pytest.mark.parametrize(
    ("minutes", "choice"),
    [
        (60, "60 min: full at 192 x 192 px, 20 epochs, about 32 min"),
        (
            10,
            "10 min: last:1 at 192 x 192 px, 4 views, 12 epochs, about 5 min; passed over: full "
            "at 192 x 192 px, 8 epochs, about 12 min",
        ),
        (
            4,
            "4 min: last:1 at 192 x 192 px, 7 epochs, about 3 min, more do not fit; passed over: "
            "full, 5 min or more; last:1 at 192 x 192 px, 4 views, 8 epochs, about 4 min",
        ),
        (
            2.2,
            "2.2 min: head at 192 x 192 px, 10 epochs, about 24 s; passed over: full, 5 min or "
            "more; last:1 at 192 x 192 px, 4 views, 8 epochs, about 4 min; last:1 at "
            "192 x 192 px, 3 epochs, about 84 s",
        ),
    ],
)
def test_choose_for_budget__takes_the_best_that_fits(chosen, minutes, choice, large):
    assert chosen(large, budget=minutes)["budget"] == choice


def test_choose_for_budget__says_how_little_is_too_little(chosen, large):
    with pytest.raises(OptionError, match=r"got 1.1 minutes, expected 1.2 or more; not enough for"):
        chosen(large, budget=1.1)
    assert chosen(large, budget=1.2)["strategy"] == "partial (head)"


def test_choose_for_budget__does_not_enlarge_small_images(chosen, image_folder):
    assert "full at 160 x 160 px" in chosen(image_folder, budget=60)["budget"]


def test_choose_for_budget__does_not_enlarge_for_networks_of_one_size(chosen, large):
    settings = chosen(large, budget=60, backbone="test_vit3")
    assert "full at 160 x 160 px" in settings["budget"]


def test_choose_for_budget__needs_fewer_epochs_of_many_steps(chosen, large, monkeypatch):
    """The 18 images of an epoch are one step, or nine."""
    assert "last:1 at 192 x 192 px, 4 views, 12" in chosen(large, budget=10)["budget"]
    monkeypatch.setattr(choose_for_budget, "_ENOUGH", 36)
    assert "full at 192 x 192 px, 5 epochs" in chosen(large, budget=10, batch_size=2)["budget"]


@pytest.mark.parametrize(
    "option", [d.name for d in declared_options(FinetuneOptions) if d.option.chosen_by_budget]
)
def test_budget__refuses_what_it_chooses(option, large):
    value = getattr(FinetuneOptions, option)  # even where it is the default

    with pytest.raises(OptionError, match=r"--budget chooses --[a-z-]+; leave one of them out"):
        transferkit.finetune(large, budget=1, **{option: value})


@pytest.mark.parametrize("option", ["find_lr", "resume"])
def test_budget__refuses_what_trains_no_new_run(option, large, tmp_path):
    with pytest.raises(
        OptionError, match=r"--budget starts a new run and trains it, --[a-z-]+ does not"
    ):
        transferkit.finetune(large, tmp_path, budget=1, **{option: True})


def test_budget__leaves_a_run_with_the_options_that_it_chose(backbones, image_folder, tmp_path):
    options = {"backbone": backbones["test_resnet"], "report": False}

    result = transferkit.finetune(image_folder, tmp_path / "run", budget=10, **options)

    assert len(result.history) == 12
    recorded = json.loads((tmp_path / "run/options.json").read_text())
    assert recorded["budget"] == 10
    chosen = {"unfreeze": "last:1", "epochs": 12, "patience": 0}
    assert {name: recorded[name] for name in chosen} == chosen
    assert recorded["given"].items() >= {"unfreeze": "last:1", "patience": 0}.items()


def test_budget__ends_training_when_the_time_is_spent(
    backbones, image_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(FinetuneRun, "training_seconds_left", lambda run: 0.0)
    options = {"backbone": backbones["test_resnet"], "report": False}

    result = transferkit.finetune(image_folder, tmp_path / "run", budget=10, **options)

    assert len(result.history) == 1
    assert result.metrics["val"]["n"] == 6


def test_budget__of_an_interrupted_run_is_resumed_as_planned(
    backbones, image_folder, tmp_path, monkeypatch
):
    options = {"backbone": backbones["test_resnet"], "report": False}

    class Stops(SilentReporter):
        def epoch(self, row, epochs, best):
            raise KeyboardInterrupt

    given = FinetuneOptions(image_folder, tmp_path / "run", budget=10, **options)
    with pytest.raises(KeyboardInterrupt):
        finetune(given, Stops())

    result = transferkit.finetune(image_folder, tmp_path / "run", resume=True, report=False)

    assert len(result.history) == 12
    assert result.history[-1].phase == "last:1"


def test_budget__interrupted_in_the_validation_of_its_last_epoch_is_resumed(
    backbones, image_folder, tmp_path, monkeypatch
):
    def interrupted(reading):
        raise KeyboardInterrupt

    options = {"backbone": backbones["test_resnet"], "report": False}
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneRun, "training_seconds_left", lambda run: 0.0)
        patch.setattr("transferkit.recipes.finetuning.create_setup._Reading.validate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transferkit.finetune(image_folder, tmp_path / "run", budget=10, **options)

    result = transferkit.finetune(image_folder, tmp_path / "run", resume=True, report=False)

    assert len(result.history) == 12


def test_budget__leaves_strong_augmentation_as_it_is(chosen, large):
    assert chosen(large, budget=5, augment="strong")["augmentation"].startswith("strong, a new")


def test_budget__passes_over_what_this_machine_cannot_do(chosen, large, monkeypatch):
    monkeypatch.setattr(choose_for_budget, "_BEST_FIRST", choose_for_budget._BEST_FIRST[1:4:2])

    def choose_cache(cache, size, *, limit, what):
        if what != "head":
            raise OptionError("--cache memory: too small")
        return CacheChoice(Cache.MEMORY)

    monkeypatch.setattr(
        "transferkit.recipes.finetuning.resolve_settings.choose_cache", choose_cache
    )

    budget = chosen(large, budget=60)["budget"]

    assert "passed over: last:1 (--cache memory: too small)" in budget


def test_choose_for_budget__trains_everything_from_random_weights(chosen, large):
    """Each image takes 5 s of a step in an epoch."""
    plan = transferkit.finetune(
        large, backbone="test_resnet", weights="none", budget=30, **DRY
    ).plan

    assert "30 min: full at 160 x 160 px, 15 epochs" in dict(plan.settings)["budget"]
