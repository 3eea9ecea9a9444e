"""The options of `transferkit compare`, and the candidates that they name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from transferkit.classifiers import Classifier
from transferkit.errors import OptionError
from transferkit.models import PRETRAINED
from transferkit.models.strategies import Strategy
from transferkit.models.unfreeze import Unfreeze
from transferkit.options.dataset_options import HeldOutOptions
from transferkit.options.declaration import OnResume, Option, Range
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.shared import (
    BACKBONE_HELP,
    DEFAULT_BACKBONE,
    MODEL,
    OUTPUT,
    STRATEGY,
    TRAINING,
    WEIGHTS_HELP,
    Data,
)
from transferkit.options.tracker_options import TrackerOptions

_BY_GRADIENT = tuple(str(s) for s in Strategy if s is not Strategy.FEATURES)
_KNOWN = (*_BY_GRADIENT, *map(str, Classifier))


@dataclass(frozen=True)
class Candidate:
    """A strategy on a backbone with its weights, to be compared with others.

    Attributes:
        strategy: partial, partial:SPEC as `--unfreeze` takes it, full, gradual, or the name of a
            classifier, which means the strategy features with that classifier.
        backbone: As `--backbone` takes it.
        weights: As `--weights` takes it.
        shows_weights: Whether the name includes the weights, because the same backbone is compared
            with several.
    """

    strategy: str
    backbone: str
    weights: str
    shows_weights: bool = False

    @property
    def network(self) -> str:
        """The backbone as the table names it."""
        weights = f" ({Path(self.weights).name})" if self.shows_weights else ""
        return f"{self.backbone}{weights}"

    @property
    def name(self) -> str:
        """Its name in sentences."""
        return f"{self.strategy} on {self.network}"

    @property
    def is_trained(self) -> bool:
        """Whether it is trained in epochs rather than fitted on features."""
        return self.strategy not in tuple(Classifier)

    @property
    def folder_name(self) -> str:
        """Its name as a part of the names of folders."""
        return re.sub(r"[^\w.()+-]+", "-", f"{self.strategy}-{self.network}").strip("-")

    def choices(self) -> dict[str, Any]:
        """Return the options of `finetune` that define it."""
        chosen: dict[str, Any] = {"backbone": self.backbone, "weights": self.weights}
        if not self.is_trained:
            return chosen | {"strategy": Strategy.FEATURES, "classifier": self.strategy}
        strategy, colon, unfreeze = self.strategy.partition(":")
        return chosen | {"strategy": strategy} | ({"unfreeze": unfreeze} if colon else {})


@dataclass(frozen=True)
class CompareOptions(HeldOutOptions, TrackerOptions):
    """Options of `transferkit compare`."""

    data: Data
    output: Annotated[
        Path | None,
        Option(
            panel=OUTPUT,
            flags=("-o", "--output"),
            help="Folder for the table, the page and the runs.",
            metavar="FOLDER",
            show_default="runs/<data>-compare",
            on_resume=OnResume.CALL,
        ),
    ] = None
    overwrite: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--overwrite",),
            help="Replace an existing comparison.",
            on_resume=OnResume.CALL,
        ),
    ] = False
    resume: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--resume",),
            help="Resume the comparison in --output: keep what is finished, resume what was "
            "stopped, start the rest.",
            on_resume=OnResume.CALL,
        ),
    ] = False
    strategy: Annotated[
        tuple[str, ...],
        Option(
            panel=STRATEGY,
            flags=("-s", "--strategy"),
            help=f"Strategy to compare; repeat for several: {', '.join(_BY_GRADIENT)}, "
            "partial:SPEC with SPEC as in finetune --unfreeze, or a classifier on features: "
            f"{', '.join(Classifier)}.",
            metavar="NAME",
        ),
    ] = ("partial", "full", "svm", "linear")
    backbone: Annotated[
        tuple[str, ...],
        Option(
            panel=MODEL,
            flags=("-b", "--backbone"),
            help=f"Repeat for several. {BACKBONE_HELP}",
            metavar="NAME",
        ),
    ] = (DEFAULT_BACKBONE,)
    weights: Annotated[
        tuple[str, ...],
        Option(
            panel=MODEL,
            flags=("--weights",),
            help=f"Once for all, or once for each --backbone in their order: {WEIGHTS_HELP}",
            metavar="W",
        ),
    ] = (PRETRAINED,)
    seeds: Annotated[
        int,
        Option(
            panel=TRAINING,
            help="Runs per candidate, with --seed and the seeds after it, on the same split.",
            within=Range(1, 100),
        ),
    ] = 3
    epochs: Annotated[
        int,
        Option(
            panel=TRAINING,
            help="Passes over the training images, for candidates that are trained.",
            within=Range(1),
        ),
    ] = FinetuneOptions.epochs
    budget: Annotated[
        float | None,
        Option(
            panel=TRAINING,
            help="Finish in about this many minutes: where time is short, the weaker half of the "
            "candidates stops early, and runs that do not fit are not started.",
            within=Range(0, open_low=True),
            metavar="MINUTES",
            show_default=False,
            on_resume=OnResume.CALL,
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume and self.overwrite:
            raise OptionError("--overwrite starts over, --resume does not; leave one out")
        if self.resume and self.output is None:
            raise OptionError("--resume: expected the comparison to resume; name it with --output")
        if self.seed + self.seeds > 2**32:
            raise OptionError(f"--seed: got {self.seed}, expected {2**32 - self.seeds} or less")
        for strategy in self.strategy:
            _check_strategy(strategy)
        if len(self.weights) not in (1, len(self.backbone)):
            raise OptionError(
                f"--weights: got {len(self.weights)} for {len(self.backbone)} backbones, expected "
                "one for all, or one for each"
            )
        _require_different(self.candidates)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every pair of a strategy and a backbone."""
        weights = self.weights * (len(self.backbone) if len(self.weights) == 1 else 1)
        return tuple(
            Candidate(strategy, backbone, its, shows_weights=self.backbone.count(backbone) > 1)
            for backbone, its in zip(self.backbone, weights, strict=True)
            for strategy in self.strategy
        )

    def run_options(self, candidate: Candidate, seed: int, **where: Any) -> FinetuneOptions:
        """Return the options of `finetune` for one run.

        Args:
            candidate: The candidate.
            seed: Seed of its head and of the order of the images.
            where: Options of this call, such as the output folder.

        Raises:
            OptionError: When the candidate cannot be run with these options.
        """
        shared = {entry.name: getattr(self, entry.name) for entry in fields(HeldOutOptions)}
        shared["log"] = self.log
        trained = {"epochs": self.epochs} if candidate.is_trained else {}
        return FinetuneOptions(
            self.data,
            **{**shared, **candidate.choices(), **trained, "seed": seed, "report": False, **where},
        )


def _check_strategy(strategy: str) -> None:
    name, colon, unfreeze = strategy.partition(":")
    if name == Strategy.PARTIAL and colon:
        Unfreeze(unfreeze)
    elif strategy not in _KNOWN:
        close = get_close_matches(strategy, _KNOWN, n=1)
        raise OptionError(
            f"--strategy: got {strategy!r}, expected {', '.join(_KNOWN)} or partial:SPEC"
            + (f"; did you mean {close[0]}?" if close else "")
        )


def _require_different(candidates: Sequence[Candidate]) -> None:
    folders = [candidate.folder_name for candidate in candidates]
    for candidate in candidates:
        if folders.count(candidate.folder_name) > 1:
            raise OptionError(
                f"{candidate.name} is named twice; name each --strategy and --backbone once"
            )
