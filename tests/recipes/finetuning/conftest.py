"""Options of small runs, and plans without a run."""

from collections.abc import Callable

import pytest

import transferkit
from transferkit.reporter import Plan

SMALL = {
    "backbone": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "batch_size": 6,
    "patience": 0,
}


@pytest.fixture
def small() -> dict:
    """Options of a small run from random weights."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def pretrained(run_folder) -> dict:
    """The same options with trained weights."""
    return SMALL | {"backbone": f"local-dir:{run_folder}/model", "weights": "pretrained"}


@pytest.fixture
def plan_of(image_folder) -> Callable[..., Plan]:
    """Return the plan of a dry run on `image_folder` with some options."""

    def plan(**options: object) -> Plan:
        return transferkit.finetune(image_folder, dry_run=True, **options).plan

    return plan
