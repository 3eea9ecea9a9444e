"""Resume a stopped run: read its options, and check that nothing else has changed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from transferkit.errors import OptionError, OutputError, WeightsError
from transferkit.models.network import Network
from transferkit.models.strategies import HeadStart
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.parsers import AUTO
from transferkit.options.recorded import GIVEN, read_recorded, resumed
from transferkit.places import Place
from transferkit.reporter import Reporter
from transferkit.run.folder import METRICS, OPTIONS, SPLIT
from transferkit.run.record import package_versions


def resumed_options(options: FinetuneOptions) -> FinetuneOptions:
    """Return the options of the run that `options` resume.

    Raises:
        OutputError: When there is no such run, or it is finished.
        OptionError: When an option is given that the run did not begin with.
    """
    run = options.output
    if run is None:
        raise OptionError("--resume: expected the run to resume; name it with --output")
    recorded = recorded_options(run)
    began = resumed(options, recorded[GIVEN], run)
    if began.learning_rate == AUTO:
        # Its range test has been run, with the head that it began with.
        rate, start = recorded["learning_rate"], HeadStart(recorded["head_start"])
        began = replace(began, learning_rate=rate, head_start=start)
    if began.batch_size == AUTO:
        # Its steps are counted in batches of the size that was chosen then.
        began = replace(began, batch_size=recorded["batch_size"])
    return began


def recorded_options(run: Place) -> Mapping[str, Any]:
    """Return the content of options.json of an unfinished run.

    Raises:
        OutputError: When there is no such run, or it is finished.
    """
    if (run / METRICS).exists():
        raise OutputError(
            f"{run}: is finished already; predict with -m {run}, or start over with --overwrite"
        )
    if not (run / OPTIONS).is_file():
        raise OutputError(
            f"{run}: nothing to resume, it has no {OPTIONS}; name the --output of a run that was "
            "stopped, or leave out --resume to start one"
        )
    if not (run / SPLIT).is_file():
        raise OutputError(
            f"{run}: nothing to resume, it was stopped before it had written {SPLIT}; start over "
            "with --overwrite"
        )
    return read_recorded(run / OPTIONS, FinetuneOptions)


def require_same_beginning(run: Place, network: Network, reporter: Reporter) -> None:
    """Check that a resumed run has the pretrained weights that it began with.

    Args:
        run: The run's folder.
        network: The network as it was built now.
        reporter: Receives a notice if the versions of packages have changed.

    Raises:
        WeightsError: When the weights have changed.
    """
    recorded = recorded_options(run)
    if recorded["weights_sha256"] != network.backbone_digest():
        raise WeightsError(
            f"{run}: began with other weights of {network.name} than are found now; restore "
            "those, or start over with --overwrite"
        )
    before, now = recorded["versions"], package_versions()
    if other := [f"{name} {before.get(name)} (now {now[name]})" for name in now
                 if now[name] != before.get(name)]:  # fmt: skip
        reporter.notice(
            f"the run began with {', '.join(other)}: results may differ in the last digits"
        )
