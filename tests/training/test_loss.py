"""The training loss: class weights, and micro-batches that add up to the batch."""

import numpy as np
import pytest
import torch

from transferkit.training.loss import ClassWeights, Criterion, class_weights


def test_class_weights__balanced_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)

    assert class_weights(ClassWeights.BALANCED, labels) == pytest.approx(expected)
    assert class_weights(ClassWeights.NONE, labels) is None


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 4.0, 0.5]).numpy()])
def test_criterion__of_micro_batches_adds_up_to_that_of_the_batch(weights):
    torch.manual_seed(0)
    criterion = Criterion(weights, 0.1, torch.device("cpu"))
    logits, labels = torch.randn(7, 3), torch.tensor([0, 1, 2, 1, 1, 0, 2])

    parts = sum(
        criterion(logits[rows], labels[rows]) * criterion.share(labels[rows], labels)
        for rows in (slice(0, 3), slice(3, 4), slice(4, 7))
    )

    assert torch.allclose(parts, criterion(logits, labels))
