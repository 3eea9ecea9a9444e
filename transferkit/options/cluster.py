"""Options of commands whose output may be computed in parts, on a cluster."""

from dataclasses import dataclass
from typing import Annotated

from transferkit.errors import OptionError
from transferkit.options.declaration import OnResume, Option, Options, Range, given_flags
from transferkit.options.parsers import number_or_auto
from transferkit.options.shared import CLUSTER, OUTPUT, Overwrite


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(Options):
    """Whether a cluster computes the output, and what happens to an output that exists."""

    overwrite: Overwrite = False
    resume: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--resume",),
            help="Compute only what is missing of an output that was interrupted.",
            on_resume=OnResume.CALL,
        ),
    ] = False
    on: Annotated[
        str | None,
        Option(
            panel=CLUSTER,
            help="Compute many images on a Ray cluster: ray starts one on this machine, "
            "ray://HOST:PORT is one that runs. --output is a folder of Parquet files then.",
            metavar="ray|ray://HOST:PORT",
            on_resume=OnResume.CALL,
            show_default="in this process",
        ),
    ] = None
    actors: Annotated[
        int | None,
        Option(
            panel=CLUSTER,
            help="With --on: processes that hold the model and divide the images; auto is one per "
            "GPU, else one per four cores.",
            within=Range(1),
            parse=number_or_auto,
            metavar="N|auto",
            on_resume=OnResume.CALL,
            show_default="auto",
        ),
    ] = None
    images_per_part: Annotated[
        int,
        Option(
            panel=CLUSTER,
            help="With --on: images per Parquet file. A multiple of --batch-size gives the "
            "batches of one process.",
            within=Range(1),
        ),
    ] = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on is None:
            if given := given_flags(self, ("actors", "images_per_part")):
                raise OptionError(f"{given[0]} is for --on; leave it out, or add --on ray")
            return
        if self.on != "ray" and not self.on.startswith("ray://"):
            raise OptionError(f"--on: got {self.on}, expected ray or ray://HOST:PORT")
        if self.resume and self.overwrite:
            raise OptionError("--overwrite starts over, --resume does not; leave one out")
