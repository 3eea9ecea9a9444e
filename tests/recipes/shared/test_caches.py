"""Runs with and without a cache have the same curves."""

from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file

import transferkit
from transferkit.devices import Cache
from transferkit.errors import OptionError
from transferkit.frozen_layers import FrozenRows
from transferkit.recipes.shared.caches import describe_bytes
from transferkit.row_cache import list_entries

SMALL = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 7}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERKIT_CACHE", str(tmp_path / "cache"))


def run(image_folder, place, **options):
    return transferkit.finetune(image_folder, place, **{**SMALL, **options})


def curve(result):
    return [{**asdict(row), "seconds": 0} for row in result.history]


STRATEGIES = {
    "head in bf16": {"epochs": 2, "precision": "bf16"},
    "last:1 in bf16": {"epochs": 2, "unfreeze": "last:1", "precision": "bf16"},
    "views in turn": {"epochs": 3, "unfreeze": "last:1", "views": 2},
    "new views": {"epochs": 2, "views": 0},
    "gradual": {"epochs": 3, "strategy": "gradual", "freeze_epochs": 2, "views": 1},
    "full": {"epochs": 2, "strategy": "full"},
}


@pytest.mark.parametrize("options", STRATEGIES.values(), ids=STRATEGIES)
def test_finetune__has_bit_equal_curves_with_and_without_a_cache(few_images, tmp_path, options):
    off, memory, disk, again = (
        run(few_images, tmp_path / str(i), cache=cache, **options)
        for i, cache in enumerate(("off", "memory", "disk", "disk"))
    )

    for other in (memory, disk, again):
        assert curve(other) == curve(off)
    states = [load_file(r.run / "model/model.safetensors") for r in (off, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_finetune__computes_no_frozen_layer_in_a_second_run(image_folder, tmp_path, monkeypatch):
    first = run(image_folder, tmp_path / "1", epochs=2)
    (entry,) = (entry for entry in list_entries() if "frozen" in entry.what)
    monkeypatch.setattr(FrozenRows, "_computed", lambda *_: pytest.fail("computed again"))
    second = run(image_folder, tmp_path / "2", epochs=2)

    assert entry.rows == 24
    assert curve(first) == curve(second)


def test_features__are_shared_by_both_commands(image_folder, tmp_path, monkeypatch):
    run(image_folder, tmp_path / "1", strategy="features", classifier="ridge")
    monkeypatch.setattr(FrozenRows, "_computed", lambda *_: pytest.fail("computed again"))
    second = transferkit.extract_features(
        image_folder, tmp_path / "2", classifier="linear", **SMALL
    )

    assert second.metrics["classifier"]["kind"] == "linear"


def test_cache__falls_back_without_room(image_folder, tmp_path, monkeypatch):
    def planned():
        plan = run(image_folder, None, dry_run=True, cache_limit=0).plan
        return dict(plan.settings)["cache"]

    assert "in memory" in planned()

    with pytest.raises(OptionError, match=r"--cache disk: head needs .* room for 0.0 kB"):
        run(image_folder, tmp_path / "run", cache="disk", cache_limit=0)
    monkeypatch.setattr("transferkit.recipes.shared.caches.memory_budget", lambda: 0)
    assert "it would take" in planned()


def test_metrics__show_how_the_time_was_spent(image_folder, tmp_path):
    time = run(image_folder, tmp_path / "run", epochs=2).metrics["time"]

    assert list(time) == [
        "start_up", "checking", "frozen_layers", "training", "evaluation", "report",
        "other",
    ]  # fmt: skip
    assert all(time[part] > 0 for part in time if part not in ("start_up", "report"))


def test_cache__has_four_kinds_and_readable_sizes():
    assert [str(kind) for kind in Cache] == ["auto", "memory", "disk", "off"]
    assert [describe_bytes(n) for n in (900, 2_500_000, 3e9)] == ["0.9 kB", "2.5 MB", "3.0 GB"]
