"""Batches of images that wait: gathered, computed once, and left out when nobody waits."""

import threading

import numpy as np
import pytest

from transferkit.inference import Outputs
from transferkit.serving.batching import BatchingThread, Places
from transferkit.serving.refusal import Refusal


class Recorded:
    """Computes the number of each image, and records the batches; waits while it is held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began, self.go_on = threading.Event(), threading.Event()

    def __call__(self, pixels):
        numbers = pixels[:, 0, 0, 0]
        self.batches.append(numbers.tolist())
        self.began.set()
        self.go_on.wait()
        if 13 in numbers:
            raise RuntimeError("unlucky")
        good = np.flatnonzero(numbers != 7)
        failures = tuple((int(row), "not finite") for row in np.flatnonzero(numbers == 7))
        return Outputs(good, numbers[good, None].astype(float), failures, good / 10)


def image(number: int) -> np.ndarray:
    return np.full((2, 2, 3), number, np.uint8)


@pytest.fixture
def recorded():
    return Recorded()


@pytest.fixture
def batches(recorded):
    thread = BatchingThread(recorded, batch_size=3, max_wait=0.01)
    yield thread
    recorded.go_on.set()
    thread.close()


def test_images_that_come_while_the_model_computes__are_its_next_batches(batches, recorded):
    first = batches.submit(image(1))
    recorded.began.wait()
    others = [batches.submit(image(number)) for number in (2, 7, 4, 5)]
    recorded.go_on.set()

    assert [one.result().values for one in (first, others[0])] == [[1.0], [2.0]]
    assert (others[1].result().values, others[1].result().failure) == (None, "not finite")
    assert (others[2].result().values, others[2].result().score) == ([4.0], 0.2)
    assert others[3].result().values == [5.0]
    assert recorded.batches == [[1], [2, 7, 4], [5]]


def test_images_that_nobody_waits_for__are_not_computed(batches, recorded):
    batches.submit(image(1))
    recorded.began.wait()
    left, stays = batches.submit(image(2)), batches.submit(image(3))
    assert left.cancel()
    recorded.go_on.set()

    assert stays.result().values == [3.0]
    assert recorded.batches == [[1], [3]]


def test_an_error__belongs_to_its_batch_alone(batches, recorded):
    recorded.go_on.set()

    with pytest.raises(RuntimeError, match="unlucky"):
        batches.submit(image(13)).result()
    assert batches.submit(image(1)).result().values == [1.0]


def test_paused__keeps_the_model_for_the_caller(batches, recorded):
    recorded.go_on.set()

    with batches.paused():
        waiting = batches.submit(image(1))
        assert not recorded.began.wait(0.1)
    assert waiting.result().values == [1.0]


def test_close__computes_what_waits():
    recorded = Recorded()
    recorded.go_on.set()
    thread = BatchingThread(recorded, batch_size=3, max_wait=5)
    waiting = thread.submit(image(1))

    thread.close()

    assert waiting.result(timeout=0).values == [1.0]


def test_places__are_bounded_and_given_back():
    places = Places(3)

    with places.taken(2):
        with pytest.raises(Refusal, match="2 images are waiting, and 3 may") as refused:
            places.taken(2).__enter__()
        with places.taken(1):
            assert places.free == 0
    assert places.free == 3
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
