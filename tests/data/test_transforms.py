"""Transforms: equal to timm's for evaluation, and seeded augmentation for training."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform

from transferkit.data.augment import Augment
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.transforms import eval_transform, train_transform

SMALL = Preprocessing(input_size=(3, 32, 32))


def smooth(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def test_train_transform__prepares_large_images_smaller_and_leaves_small_ones():
    transform = train_transform(SMALL, Augment.LIGHT)

    assert transform.prepare(smooth(400, 300)).shape == (48, 64, 3)
    assert transform.prepare(smooth(45, 40)).shape == (40, 45, 3)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


SIDES = st.integers(1, 90)


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(SIDES, SIDES),
    target=st.tuples(st.integers(8, 48), st.integers(8, 48)) | st.just((32, 32)),
    crop=st.floats(0.5, 1.3),
    mode=st.sampled_from(["center", "border", "squash"]),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest", "lanczos"]),
)
def test_eval_transform__equals_timms(size, target, crop, mode, interpolation):
    record = Preprocessing((3, *target), interpolation, crop, mode)
    image = noise(*size)
    timms = create_transform(**record.to_config(), is_training=False, use_prefetcher=True)
    try:
        theirs = np.asarray(timms(image))
    except ValueError:  # a side of no pixels, which is ours to avoid
        theirs = None

    ours = eval_transform(record)(image, None)

    assert ours.shape == (*target, 3)
    if theirs is not None:
        assert np.array_equal(ours, theirs.transpose(1, 2, 0))


@pytest.mark.parametrize("augment", [Augment.LIGHT, Augment.STRONG])
@pytest.mark.parametrize("size", [(60, 40), (1, 1), (500, 3)])
def test_train_transform__depends_on_its_generator_alone(augment, size):
    transform = train_transform(SMALL, augment)
    image = noise(*size)

    views = [transform(image, np.random.default_rng(seed)) for seed in (0, 0, *range(1, 40))]

    assert {view.shape for view in views} == {(32, 32, 3)}
    assert {view.dtype for view in views} == {np.dtype(np.uint8)}
    assert np.array_equal(views[0], views[1])
    assert any(not np.array_equal(views[0], view) for view in views[2:])


def test_train_transform__without_augmentation_is_that_of_evaluation():
    image = noise(50, 40)
    random = np.random.default_rng(0)

    expected = eval_transform(SMALL)(image, random)

    assert np.array_equal(train_transform(SMALL, Augment.NONE)(image, random), expected)


def test_eval_transform__pads_where_the_crop_is_more_than_the_image():
    record = Preprocessing(input_size=(3, 48, 48), crop_pct=1.15)
    transform = eval_transform(record)
    image = Image.fromarray(np.full((60, 80, 3), 200, dtype=np.uint8))

    pixels = transform(image, np.random.default_rng(0))

    assert pixels.shape == (48, 48, 3)
    assert pixels[0, 0, 0] == 0
    assert pixels[24, 24, 0] == 200


@pytest.mark.parametrize("size", [(60, 80), (80, 60), (31, 90)])
def test_train_transform__pads_to_the_shape_of_the_network(size):
    record = Preprocessing(input_size=(3, 48, 96), crop_mode="border")
    transform = train_transform(record, Augment.LIGHT)
    image = Image.fromarray(np.full((*size, 3), 200, dtype=np.uint8))

    height, width, _ = transform.prepare(image).shape

    assert abs(height * 2 - width) <= 2
