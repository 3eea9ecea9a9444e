"""Options of commands whose runs trackers may record."""

from dataclasses import dataclass
from typing import Annotated

from transferkit.errors import OptionError
from transferkit.options.declaration import Option, Options
from transferkit.options.shared import OUTPUT
from transferkit.places import Url
from transferkit.trackers import TRACKERS, Tracker


@dataclass(frozen=True, kw_only=True)
class TrackerOptions(Options):
    """What records a run while it trains."""

    log: Annotated[
        tuple[Tracker, ...],
        Option(
            panel=OUTPUT,
            flags=("--log",),
            help="Record every step and epoch, the options, the model and the page; repeat for "
            "several. tensorboard and csv write to logs/ in the run, mlflow and wandb to where "
            "their environment variables say.",
            metavar="|".join(Tracker),
            show_default=False,
        ),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        output = getattr(self, "output", None)
        in_run = [tracker for tracker in self.log if TRACKERS[tracker].writes_to_run]
        if isinstance(output, Url) and in_run:
            raise OptionError(
                f"--log {in_run[0]} appends to files in the run, and {output} is in a store, where "
                "files are written whole; leave it out, or name an --output on this machine"
            )
