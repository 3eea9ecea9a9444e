"""The plan of a run, printed before anything is trained."""

import pytest


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"strategy": "full"}, True),
        ({"unfreeze": "last:1"}, True),
        ({"unfreeze": "head"}, False),
        ({"strategy": "full", "backbone": "test_vit", "weights": "none"}, False),
    ],
)
def test_plan__names_batchnorm_if_any_is_trained(pretrained, plan_of, settings, named):
    plan = plan_of(**{**pretrained, **settings})

    assert ("batchnorm" in dict(plan.settings)) is named


def test_plan__says_when_gradual_thawing_does_not_reach_the_stem(pretrained, plan_of):
    plan = plan_of(strategy="gradual", head_start="random", epochs=4, **pretrained)
    strategy = dict(plan.settings)["strategy"]

    assert strategy.startswith("gradual (last:3), the first epoch for the head alone")
    assert strategy.endswith("4 epochs do not reach the stem")


def test_plan__says_what_is_cached_and_how_images_are_varied(small, plan_of):
    def settings(**options):
        planned = dict(plan_of(**small, **options).settings)
        return planned["cache"], planned["augmentation"]

    cache, augmentation = settings()
    assert cache.startswith("frozen layers computed once")
    assert "on disk" in cache
    assert augmentation.startswith("none while layers are frozen")
    assert "in memory" in settings(cache="memory")[0]
    assert settings(cache="off")[0] == "--cache off"
    assert settings(strategy="full", freeze_epochs=1)[0] == (
        "head: one epoch reads each image once; all: nothing is frozen"
    )
    assert settings(views=3)[1] == "light, 3 views of each image take turns"
    assert settings(unfreeze="last:1")[1] == "light, 4 views of each image take turns"
    assert settings(augment="strong")[1] == "strong, a new view of each image every epoch"
    assert settings(strategy="full")[1] == "light, a new view of each image every epoch"
    assert settings(augment="none", strategy="full")[1] == "none"


def test_plan__says_that_a_network_cannot_be_split(small, plan_of):
    plan = plan_of(**small | {"backbone": "twins_svt_small", "image_size": 64})

    assert dict(plan.settings)["cache"] == "the frozen part of twins_svt_small cannot be split off"
