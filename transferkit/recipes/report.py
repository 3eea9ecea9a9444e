"""Write the page of a finished run, from its folder, its model and its images."""

from dataclasses import dataclass

from transferkit.bundle import ModelBundle
from transferkit.files import require_new, require_place
from transferkit.options.report import ReportOptions
from transferkit.places import Place
from transferkit.recipes.shared.compute_settings import resolve_compute
from transferkit.report.run_contents import ReportSources, write_report
from transferkit.reporter import SILENT, Reporter
from transferkit.run.folder import REPORT_PAGE
from transferkit.run.record import place_of_images, read_run


@dataclass(frozen=True)
class WrittenPage:
    """A page that was written.

    Attributes:
        output: The file.
        notes: What could not be shown, and why.
    """

    output: Place
    notes: tuple[str, ...]


def report(options: ReportOptions, reporter: Reporter = SILENT) -> WrittenPage:
    """Write the page of a finished run again.

    Raises:
        BundleError: When the run is not finished, or its model cannot be loaded.
        OptionError: When this machine has no such device.
        OutputError: When the page exists elsewhere than in the run, or cannot be written.
    """
    output = options.output or options.run / REPORT_PAGE
    if options.output:
        require_new(options.output, overwrite=options.overwrite)
    record = read_run(options.run)
    require_place(output)
    bundle = ModelBundle.load(options.run)
    compute = resolve_compute(options, bundle.network, reporter)
    data = options.data or place_of_images(record.options)
    notes = write_report(ReportSources(record, bundle, compute, data), output, reporter)
    return WrittenPage(output, notes)
