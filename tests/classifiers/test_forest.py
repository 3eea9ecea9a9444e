"""Labels told from a few numbers, by forests that have not seen the image."""

import numpy as np

from transferkit.classifiers.forest import held_out_labels


def test_held_out_labels__find_what_a_number_gives_away():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 150)
    values = np.stack([random.normal(size=150), labels * 100.0], axis=1)
    told = held_out_labels(values, labels, seed=0, copies=np.arange(150))

    assert (told == labels).all()


def test_held_out_labels__keep_copies_on_one_side_of_a_fold():
    random = np.random.default_rng(0)
    values, labels = random.normal(size=(60, 4)), random.integers(0, 2, 60)
    values, labels = np.repeat(values, 4, axis=0), np.repeat(labels, 4)
    seen = held_out_labels(values, labels, seed=0, copies=np.arange(240))
    unseen = held_out_labels(values, labels, seed=0, copies=np.arange(240) // 4)

    # The labels are random, so that only a forest that has seen a copy can know them.
    assert (seen == labels).mean() > 0.9
    assert (unseen == labels).mean() < 0.65


def test_held_out_labels__do_not_tell_the_only_image_of_a_class():
    labels = np.array([0] * 10 + [1] * 10 + [2])

    told = held_out_labels(np.ones((21, 1)), labels, seed=0, copies=np.arange(21))

    assert np.flatnonzero(told == -1).tolist() == [20]
