"""Begin the new head as the linear classifier fitted on the pretrained features.

A random head sends gradients into the pretrained layers that distort what they know: Kumar et al.,
Fine-tuning can distort pretrained features and underperform out-of-distribution, ICLR 2022.
"""

import torch

from transferkit.data.bad_images import require_all_readable
from transferkit.inference import collect
from transferkit.models.feature_extractor import PRELOGITS, FeatureExtractor
from transferkit.models.strategies import HeadStart
from transferkit.network_outputs import features
from transferkit.recipes.finetuning.run_in_progress import TrainingRun
from transferkit.run.stopwatch import FROZEN
from transferkit.sampling import evenly_spaced

MOST = 5000
"""At most this many training images are fitted; more hardly change a linear classifier."""

FEWEST_PER_CLASS = 20
"""With fewer of them per class, the head begins with random weights. Measured: with 3 it knew them
by heart at once, and the stages below it learned less."""


def start_head(run: TrainingRun) -> None:
    """Give the network's last layer the weights that the run's settings say, in place.

    Raises:
        DataError: When an image can no longer be read.
    """
    if run.settings.head_start is HeadStart.RANDOM:
        return
    from transferkit.classifiers.linear_head import fit_linear_head

    dataset, network = run.dataset, run.network
    network.module.eval()
    rows = dataset.rows("train")
    rows = rows[evenly_spaced(len(rows), MOST)]
    own = run.processes.share(rows)
    files = [dataset.index.files[row] for row in own.tolist()]
    with (
        run.stopwatch.part(FROZEN),
        run.reporter.progress("fitting the head", len(files)) as progress,
    ):
        parts = features(FeatureExtractor(network, (PRELOGITS,)), files, run.compute)
        table = collect(parts, len(files), network.feature_dim, progress.advance)
        failed = [(int(own[row]), reason) for row, reason in table.reasons.items()]
        require_all_readable(dataset, failed)
        values = run.processes.gather_rows(table.values)
        weights, biases = fit_linear_head(values, dataset.index.labels[rows], network.num_classes)
    (layer,) = network.last_layers
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights).view_as(layer.weight))
        layer.bias.copy_(torch.from_numpy(biases))
