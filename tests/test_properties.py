"""What holds for every name, layout and image, tried on many."""

import csv
import io
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from transferkit.cli.console import escape, inert
from transferkit.data.images import ImageError, decode_image
from transferkit.data.index import ImageIndex
from transferkit.data.scan import scan
from transferkit.data.split import assign_splits
from transferkit.files import json_text
from transferkit.tables import write_csv

settings.register_profile("quick", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("quick")

NAMES = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1),
    st.binary(min_size=1).map(os.fsdecode),
    st.sampled_from(
        [
            "=1+1",
            "-x",
            "a,b",
            'q"',
            "two\nlines",
            "\r",
            "\x1b[31m",
            "[red]",
            "<script>",
            "\U0001f431",
        ]
    ),
).filter(
    lambda name: (
        "/" not in name
        and "\0" not in name
        and not name.startswith(".")
        and len(os.fsencode(name)) <= 200
    )
)
"""Names that file systems accept and that are not hidden."""


@given(name=NAMES)
def test_names__come_back_from_csv_and_json_and_are_shown_inertly(name, tmp_path_factory):
    file = tmp_path_factory.mktemp("names") / "table.csv"
    write_csv(file, ("name", "other"), [(name, "x")])
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        _, row = csv.reader(lines)

    assert row == [name, "x"]
    assert json.loads(json_text({"name": name}))["name"] == name
    assert inert(name).isprintable()
    assert "\x1b" not in escape(name)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(classes=st.sets(NAMES, min_size=2, max_size=4), file=NAMES)
def test_scan__finds_images_under_every_name(classes, file, tmp_path_factory):
    root = tmp_path_factory.mktemp("layout")
    assume(len({name.lower() for name in classes}) == len(classes))
    assume(not {name.lower() for name in classes} & {"train", "val", "valid", "validation", "test"})
    for name in classes:
        (root / name).mkdir()
        (root / name / f"{file}.png").write_bytes(b"")

    index = scan(root)

    assert index.class_names == tuple(sorted(classes))
    assert sorted(index.paths) == sorted(f"{name}/{file}.png" for name in classes)


@st.composite
def datasets(draw):
    """Labels and contents of images, some of which are copies."""
    count = draw(st.integers(8, 60))
    contents = draw(st.lists(st.integers(0, 3 * count), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return np.array(labels), np.array(contents)


def divide(labels, contents, order, **options):
    """Split images in this order: return (content, label) -> split, and the split of each image."""
    paths = tuple(f"{i}.png" for i in range(len(order)))
    index = ImageIndex(Path("data"), paths, labels[order], ("a", "b", "c"), ("",) * len(order))
    digests = [f"{c:064x}" for c in contents[order]]
    splits = assign_splits(index, digests, contents[order], **options)
    return dict(zip(zip(digests, labels[order].tolist(), strict=True), splits, strict=True)), splits


@given(dataset=datasets(), seed=st.integers(0, 9), fraction=st.floats(0.05, 0.6), data=st.data())
def test_splits__follow_from_content_keep_shares_and_never_divide_copies(
    dataset, seed, fraction, data
):
    labels, contents = dataset
    first = {
        content: label
        for content, label in sorted(zip(contents.tolist(), labels.tolist(), strict=True))[::-1]
    }
    assume(min(np.bincount(list(first.values()), minlength=3)) >= 2)
    order = np.arange(len(labels))
    shuffled = np.array(data.draw(st.permutations(order.tolist())))
    options = {"val_fraction": fraction, "seed": seed}
    # A class all of whose images are in other classes too can lose its training images.
    assume(all(len(set(contents[labels == label]) - set(contents[labels != label])) > 1
               for label in range(3)))  # fmt: skip
    sides, splits = divide(labels, contents, order, **options)

    assert divide(labels, contents, shuffled, **options)[0] == sides
    of_content = {}
    for (content, _), split in sides.items():
        assert of_content.setdefault(content, split) == split
    if len(set(contents.tolist())) == len(contents):
        for label in range(3):
            size = int((labels == label).sum())
            held_out = sum(
                s == "val" for s, one in zip(splits, labels, strict=True) if one == label
            )
            assert abs(held_out - fraction * size) <= 1 or held_out in (1, size - 1)


@given(dataset=datasets(), seed=st.integers(0, 9), more=st.integers(1, 30))
def test_splits__that_are_known_stay_when_images_are_added(dataset, seed, more):
    labels, _ = dataset
    assume(min(np.bincount(labels, minlength=3)) >= 2)
    contents = np.arange(len(labels) + more)
    grown = np.concatenate([labels, np.arange(more) % 3])
    order = np.arange(len(labels))
    _, before = divide(labels, contents, order, val_fraction=0.2, seed=seed)
    known = dict(enumerate(before))
    _, after = divide(
        grown, contents, np.arange(len(grown)), val_fraction=0.2, seed=seed, known=known
    )

    assert after[: len(before)] == before
    for label in range(3):
        rows = np.flatnonzero(grown == label)
        held_out = sum(after[row] == "val" for row in rows)
        assert abs(held_out - 0.2 * len(rows)) <= 1.5 or held_out == 1


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"]),
    needed=st.one_of(st.none(), st.integers(1, 64)),
)
def test_decode_image__gives_rgb_of_the_same_shape(width, height, mode, needed):
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG", "F": "TIFF", "I": "TIFF", "I;16": "PNG"}.get(
        mode, "PNG"
    )
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, kind)

    decoded = decode_image(file.getvalue(), needed)

    assert decoded.mode == "RGB"
    if needed is None:
        assert decoded.size == (width, height)
    else:
        assert min(decoded.size) >= min(needed, width, height)


@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]),
    share=st.floats(0, 1, exclude_max=True),
)
def test_decode_image__of_a_cut_file_gives_a_reason_or_the_whole_image(kind, share):
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    whole = file.getvalue()
    cut = whole[: int(share * len(whole))]
    with suppress(ImageError):
        assert (np.asarray(decode_image(cut)) == pixels(whole)).all()


def pixels(file):
    return np.asarray(decode_image(file))


@pytest.mark.parametrize("count", [1, 2])
def test_splits__train_on_a_class_without_two_different_images(count):
    labels = np.array([0] * count + [1] * 5 + [2] * 5)
    contents = np.array([0] * count + list(range(1, 11)))
    _, splits = divide(labels, contents, np.arange(len(labels)), val_fraction=0.2, seed=0)

    assert set(splits[:count]) == {"train"}
    assert "val" in splits
