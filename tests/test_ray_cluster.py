"""What a Ray cluster reports when one of its tasks fails; all else is tested by commands."""

import pytest

from transferkit.errors import EngineError
from transferkit.ray_cluster import LOCAL, compute_on_ray


def create():
    def compute(images):
        raise OSError("the disk is gone")

    return compute


def test_compute_on_ray__says_what_failed_instead_of_rays_advice():
    found = compute_on_ray([(0, ["a.png"])], create, address=LOCAL, actors=1)

    with pytest.raises(EngineError, match=r"^--on ray: OSError: the disk is gone$"):
        next(found)
