"""The scripts that make the embedded backbone: seeded, resumable, and learning what they claim."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from transferkit.models.digests import tensors_digest

SCRIPTS = Path(__file__).parents[1] / "pretraining"


@pytest.fixture
def scripts(monkeypatch):
    """The scripts as modules, with few pictures per part."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import learner
    import pictures
    import store
    import train
    import views

    monkeypatch.setattr(store, "_PART", 8)
    yield pictures, store, views, learner, train
    for script in SCRIPTS.glob("*.py"):
        sys.modules.pop(script.stem, None)


@pytest.fixture
def few():
    """Options of a pretraining that takes seconds."""
    return {
        "programs": 16, "side": 32, "view": 32, "epochs": 2, "batch": 8,
        "workers": 1, "probe_every": 99, "probe_folders": [],
    }  # fmt: skip


def test_pictures__follow_from_their_number(scripts):
    pictures, *_ = scripts
    drawn = [pictures.render(program, 32) for program in range(24)]

    for program, picture in enumerate(drawn):
        assert picture.shape == (32, 32, 3)
        assert picture.dtype == np.uint8
        assert (picture == pictures.render(program, 32)).all(), program
    assert len({picture.tobytes() for picture in drawn}) == 24
    assert np.mean([picture.std() > 5 for picture in drawn]) > 0.9


@pytest.mark.parametrize(
    "family",
    ["formula", "texture", "generated", "leaves", "body", "fractal", "drawing"],
)
def test_pictures__every_family_fills_the_square(scripts, family):
    pictures, *_ = scripts
    streams = (np.random.default_rng((7, stream)) for stream in (0, 1))

    picture = getattr(pictures, family)(*streams, 40)

    assert getattr(pictures, family) in pictures.FAMILIES
    assert picture.shape == (40, 40, 3)
    assert np.isfinite(picture).all()
    assert picture.std() > 0.005


def test_views__differ_and_follow_from_the_seed(scripts):
    *_, views, _, _ = scripts
    pictures = torch.rand(4, 3, 40, 40, generator=torch.Generator().manual_seed(0))

    def drawn(seed):
        make = views.Views(24, torch.Generator().manual_seed(seed))
        return make(pictures), make(pictures)

    (first, second), (again, _), (other, _) = drawn(1), drawn(1), drawn(2)
    assert first.shape == (4, 3, 24, 24)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    pixels = first * views.STD + views.MEAN
    assert 0 <= pixels.min() < pixels.max() <= 1


def test_colour_histograms__tell_the_middle_from_the_rim(scripts):
    *_, views, learner, _ = scripts
    picture = torch.zeros(2, 3, 16, 16)
    picture[0, 0, 4:12, 4:12] = 1  # a red square on black, then black alone
    histograms = learner.colour_histograms((picture - views.MEAN) / views.STD).view(2, 2, 64)

    assert histograms[0, 0].nonzero().flatten().tolist() == [3 * 16]
    assert histograms[0, 1].nonzero().flatten().tolist() == [0]
    assert histograms[1, 0].tolist() == histograms[1, 1].tolist() == [1.0] + [0.0] * 63


def test_loss__is_small_for_pairs_that_are_alike_and_far_from_others(scripts):
    *_, learner, _ = scripts
    apart = torch.eye(4)
    alike = learner._contrast(torch.cat([apart, apart]))
    crossed = learner._contrast(torch.cat([apart, apart.roll(1, 0)]))

    assert alike < 0.1
    assert crossed > alike + 4


def test_train__resumes_to_the_same_weights(scripts, few, tmp_path, monkeypatch, capsys):
    *_, train = scripts
    train.main(tmp_path / "whole", **few)
    record = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    keep = train.Training._keep

    def stop_after_the_first(training):
        keep(training)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train.Training, "_keep", stop_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            train.main(tmp_path / "stopped", **few)
    train.main(tmp_path / "stopped", **few)

    assert [row["epoch"] for row in record] == [1, 2]
    whole, stopped = (tmp_path / name / "nano" for name in ("whole", "stopped"))
    made = json.loads((whole / "config.json").read_text("utf-8"))
    assert made == json.loads((stopped / "config.json").read_text("utf-8"))
    assert made["pretraining"]["steps"] == 4
    weights = load_file(whole / "model.safetensors")
    assert made["pretraining"]["digest"] == tensors_digest(weights)
    # Training has changed the weights.
    torch.manual_seed(0)
    initial = scripts[3].Learner().backbone.state_dict()["layer4.0.conv2.weight"].half()
    assert not torch.equal(weights["layer4.0.conv2.weight"], initial)


def test_train__refuses_to_resume_with_other_options(scripts, few, tmp_path):
    *_, train = scripts
    train.main(tmp_path, **few | {"epochs": 1})

    with pytest.raises(SystemExit, match="began with"):
        train.main(tmp_path, **few)
