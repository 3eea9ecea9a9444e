"""Copies of an image are found in any encoding and size, and nothing else is found."""

import io

import numpy as np
import pytest
from PIL import Image

from transferkit.data.copies import near_pairs, number_copies, signature
from transferkit.data.images import decode_image

CHANGES = {
    "quality": lambda image: encoded(image, "JPEG", quality=30),
    "png": lambda image: encoded(image, "PNG"),
    "webp": lambda image: encoded(image, "WEBP", quality=60),
    "half": lambda image: encoded(image.resize((image.width // 2, image.height // 2)), "JPEG"),
    "double": lambda image: encoded(image.resize((2 * image.width, 2 * image.height)), "JPEG"),
}


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(seed, size=(120, 90)):
    """Return random colours whose finer detail is weaker, as in photographs."""
    random, total = np.random.default_rng(seed), np.zeros((size[1], size[0], 3))
    for octave in range(1, 6):
        noise = random.integers(0, 256, (3 * 2**octave, 4 * 2**octave, 3), dtype=np.uint8)
        scaled = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(scaled) / 2**octave
    return Image.fromarray(total.astype(np.uint8))


def differing(count, bits):
    """Return two hashes of 256 bits that differ in `bits` of them."""
    random = np.random.default_rng(count)
    one = random.integers(0, 2, 256)
    other = one.copy()
    other[random.permutation(256)[:bits]] ^= 1
    return np.packbits([one, other], axis=1)


def copies_among(*images):
    names = [str(i) for i in range(len(images))]
    return number_copies(names, np.stack([signature(image) for image in images])).tolist()


@pytest.mark.parametrize("change", CHANGES)
def test_copies__are_found_whatever_the_encoding_and_size(change):
    for seed in range(20):
        changed = decode_image(CHANGES[change](photograph(seed)))

        assert copies_among(photograph(seed), photograph(99), changed) == [0, 1, 0]


def test_copies__are_not_images_of_other_content():
    assert copies_among(*(photograph(seed) for seed in range(200))) == list(range(200))


def test_copies__are_not_images_in_other_colours():
    """The hash sees only brightness; the colours of the signature differ."""
    red, green, blue = photograph(1).split()
    other = Image.merge("RGB", (green, red, blue)), Image.merge("RGB", (blue, green, red))

    assert copies_among(photograph(1), *other) == [0, 1, 2]


def test_copies__of_plain_images_are_found_only_if_their_files_are_equal():
    plain = [Image.new("RGB", (9, 9), "red") for _ in range(3)]

    assert copies_among(*plain) == [0, 1, 2]
    signatures = np.stack([signature(image) for image in plain])
    assert number_copies(["a", "b", "a"], signatures).tolist() == [0, 1, 0]


@pytest.mark.parametrize("bits", range(16))
def test_near_pairs__finds_every_pair_up_to_15_bits(bits):
    for count in range(10):
        assert list(near_pairs(differing(count, bits))) == [(0, 1)]


def test_near_pairs__agrees_with_comparing_all_pairs():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (300, 32), dtype=np.uint8)
    hashes[100:200] = hashes[:100]
    hashes[100:200, :2] ^= random.integers(0, 256, (100, 2), dtype=np.uint8)
    bits = np.unpackbits(hashes, axis=1)
    distances = (bits[:, None] != bits[None]).sum(axis=-1)
    expected = {(a, b) for a, b in np.argwhere(distances <= 24).tolist() if a < b}

    assert set(near_pairs(hashes)) == expected
    assert len(expected) >= 100


def test_near_pairs__of_many_equal_hashes_does_not_list_all_pairs():
    hashes = np.zeros((30_000, 32), dtype=np.uint8)

    pairs = list(near_pairs(hashes))

    assert len(pairs) < 60_000
    assert {b for _, b in pairs} == set(range(1, 30_000))


def test_number_copies__joins_equal_files_and_images_that_look_alike():
    signatures = np.stack([signature(photograph(seed)) for seed in (1, 2, 1, 3, 2, 4)])

    assert number_copies(["a", "b", "c", "b", "d", "a"], signatures).tolist() == [0, 1, 0, 1, 1, 0]


def test_number_copies__joins_chains_and_numbers_each_by_its_first_image():
    """Equal files join 0 with 3 and 3 with 4; likeness joins 1 with 2 and 2 with 5."""
    hashes = np.concatenate([differing(1, 0)[:1], *(differing(seed, 20) for seed in (2, 3))])
    step = np.packbits([1] * 20 + [0] * 236)
    signatures = np.full((6, 80), 128, dtype=np.uint8)
    signatures[[0, 3, 4], :32] = hashes[0]
    signatures[1, :32], signatures[2, :32] = hashes[1], hashes[1] ^ step
    signatures[5, :32] = hashes[1] ^ step ^ np.roll(step, 16)

    numbers = number_copies(["a", "b", "c", "a", "a", "d"], signatures)

    assert numbers.tolist() == [0, 1, 1, 0, 0, 1]


def test_number_copies__of_no_images_is_empty():
    assert number_copies([], np.zeros((0, 80), dtype=np.uint8)).tolist() == []
