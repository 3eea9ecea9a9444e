"""The options of `transferkit serve`."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from transferkit.engines import Engine
from transferkit.errors import OptionError
from transferkit.options.answering import (
    Accuracy,
    MinConfidence,
    Sets,
    TopK,
    require_one_threshold,
)
from transferkit.options.declaration import Option, Range
from transferkit.options.shared import (
    EXPORTED_HELP,
    BatchSize,
    ComputeOptions,
    EngineOption,
    Tta,
)

ADDRESS, LIMITS = "Address and access", "Limits"

TOKEN_VARIABLE = "TRANSFERKIT_TOKEN"
"""Environment variable for `--token`, which other users of the machine cannot see."""

_BATCH_SIZE = 16
"""Smaller than elsewhere: clients wait for a batch, and while it is computed, the images of the
next one are decoded. With 32 clients, a ResNet18 on two CPU cores answers a fifth more requests
than with batches of 32."""

_ORIGIN = re.compile(r"https?://[^/?#@\s]+")


@dataclass(frozen=True)
class ServeOptions(ComputeOptions):
    """Options of `transferkit serve`."""

    model: Annotated[str, Option(argument=True, help=EXPORTED_HELP, metavar="RUN")]
    batch_size: BatchSize = field(default=_BATCH_SIZE, kw_only=True)
    host: Annotated[
        str,
        Option(
            panel=ADDRESS,
            help="Address to listen at. One that other machines reach, such as 0.0.0.0, needs "
            "--token or --no-token.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Option(panel=ADDRESS, help="Port to listen at; 0 is any free one.", within=Range(0, 65535)),
    ] = 8000
    token: Annotated[
        str | None,
        Option(
            panel=ADDRESS,
            help="Answer only requests with the header Authorization: Bearer TOKEN. Better given "
            f"by the environment variable {TOKEN_VARIABLE}, which other users cannot see.",
            show_default=False,
        ),
    ] = None
    no_token: Annotated[
        bool,
        Option(
            panel=ADDRESS,
            flags=("--no-token",),
            help="Answer everyone who reaches --host.",
        ),
    ] = False
    allow_origin: Annotated[
        tuple[str, ...],
        Option(
            panel=ADDRESS,
            help="Let pages of this origin call the endpoint from a browser, as in "
            "https://example.org; may be given several times.",
            metavar="ORIGIN",
            show_default="none but its own page",
        ),
    ] = ()
    collect: Annotated[
        Path | None,
        Option(
            panel="Output",
            help="Keep the images whose class is marked on the page in this folder, one folder per "
            "class, which finetune reads. marks.csv in it lists the marks.",
            metavar="DIR",
            show_default="marks are refused",
        ),
    ] = None
    top_k: TopK = 5
    min_confidence: MinConfidence = 0.0
    accuracy: Accuracy = None
    sets: Sets = None
    tta: Tta = False
    engine: EngineOption = Engine.AUTO
    max_wait: Annotated[
        float,
        Option(
            panel=LIMITS,
            help="Milliseconds that an image waits for others, to be computed in one batch.",
            within=Range(0, 1000),
            metavar="MS",
        ),
    ] = 5.0
    queue: Annotated[
        int,
        Option(
            panel=LIMITS,
            help="Images that may wait; a request beyond is answered 503.",
            within=Range(1, 100_000),
            metavar="N",
        ),
    ] = 256
    max_upload: Annotated[
        float,
        Option(
            panel=LIMITS,
            help="Megabytes of a request.",
            within=Range(0, 1000, open_low=True),
            metavar="MB",
        ),
    ] = 64.0
    max_images: Annotated[
        int,
        Option(panel=LIMITS, help="Images of a request.", within=Range(1, 10_000), metavar="N"),
    ] = 64
    timeout: Annotated[
        float,
        Option(
            panel=LIMITS,
            help="Seconds in which a request arrives and is answered.",
            within=Range(0, 3600, open_low=True),
            metavar="SECONDS",
        ),
    ] = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_threshold(self)
        if self.token is not None and self.no_token:
            raise OptionError("--token and --no-token exclude each other; leave one out")
        if self.max_images > self.queue:
            raise OptionError(
                f"--max-images: got {self.max_images}, more than the {self.queue} images of "
                "--queue, which a request that large could never enter; lower it, or raise --queue"
            )
        for origin in self.allow_origin:
            if not _ORIGIN.fullmatch(origin):
                raise OptionError(
                    f"--allow-origin: got {origin!r}, expected scheme and host without a path, as "
                    "in https://example.org"
                )
