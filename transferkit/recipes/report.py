"""The page of a run: gathered from its folder, its model and its pictures."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transferkit.bundle import ModelBundle
from transferkit.errors import TransferKitError
from transferkit.files import require_place, write_json
from transferkit.inference import Pass
from transferkit.recipes.compute import create_pass
from transferkit.recipes.job import Job
from transferkit.recipes.options import ReportOptions
from transferkit.recipes.run_folder import METRICS, REPORT_PAGE
from transferkit.recipes.run_record import RunRecord, read_run
from transferkit.recipes.run_report import gather
from transferkit.recipes.stopwatch import REPORT
from transferkit.report.page import write_page
from transferkit.report.run_page import run_page
from transferkit.reporting import SILENT, Reporter


@dataclass(frozen=True)
class Drawn:
    """A page that was written.

    Attributes:
        output: The file.
        notes: What could not be shown, and why.
    """

    output: Path
    notes: tuple[str, ...]


def report(options: ReportOptions, reporter: Reporter = SILENT) -> Drawn:
    """Draw the page of a finished run again.

    Raises:
        BundleError: When it is no finished run, or its model cannot be loaded.
        OptionError: When this machine has no such device.
        OutputError: When the page cannot be written.
    """
    output = options.output or options.run / REPORT_PAGE
    record = read_run(options.run)
    require_place(output)
    bundle = ModelBundle.load(options.run)
    how = create_pass(options, bundle.network, reporter)
    root = options.data or Path(record.options["data"])
    notes = write_report(record, bundle, how, root=root, output=output, reporter=reporter)
    return Drawn(output, notes)


def leave_report(job: Job, bundle: ModelBundle, how: Pass, metrics: dict[str, Any]) -> None:
    """Draw the page of a run that has just come to its end, where it is wanted.

    The run is whole without it, so a page that fails costs nothing but a notice.

    Args:
        job: The run; its model and metrics are written.
        bundle: Its model.
        how: How it computes.
        metrics: Its metrics, to which the page's time is added, also on disk.
    """
    run = job.run
    if run is None or not job.draws_report:
        return
    try:
        with job.watch.part(REPORT):
            write_report(
                read_run(run),
                bundle,
                how,
                root=job.options.data,
                output=run / REPORT_PAGE,
                reporter=job.reporter,
            )
        spent = job.watch.seconds(REPORT)
        metrics["seconds"] += spent
        metrics["time"][REPORT] = spent
        write_json(run / METRICS, metrics)
    except Exception as error:
        # Even a bug of ours: the run is done, and the command below shows it.
        known = isinstance(error, TransferKitError)
        told = str(error) if known else f"{type(error).__name__}: {error}"
        job.reporter.notice(
            f"the run is whole, but its page could not be drawn: {told}; draw it with: "
            f"transferkit report {shlex.quote(str(run))}"
        )


def write_report(
    record: RunRecord,
    bundle: ModelBundle,
    how: Pass,
    *,
    root: Path,
    output: Path,
    reporter: Reporter,
) -> tuple[str, ...]:
    """Gather what the page of a run shows, and write it.

    Args:
        record: The run.
        bundle: Its model.
        how: How features are computed.
        root: Where the dataset is now.
        output: The page's file.
        reporter: Told of the progress.

    Returns:
        What could not be shown, and why.

    Raises:
        OutputError: When it cannot be written.
    """
    gathered = gather(record, bundle, how, root, reporter)
    write_page(output, run_page(gathered))
    return tuple(gathered.notes.values())
