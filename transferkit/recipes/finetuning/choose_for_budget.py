"""Choose strategy, image size and epochs of a run for the time that it may take.

Which choice is better was measured beforehand, see docs/explanation/measurements.md. How long each
takes is measured here, with the run's own images and network, on this machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import median

from transferkit.data.augment import Augment
from transferkit.data.bad_images import require_all_readable
from transferkit.data.images import ImageError, read_image
from transferkit.data.preprocessing import ImageSize, both_sides, describe_size
from transferkit.durations import describe_seconds
from transferkit.errors import OptionError
from transferkit.models.strategies import Strategy
from transferkit.models.unfreeze import HEAD_ALONE, Unfreeze, last_stages
from transferkit.models.usual_images import MOST
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.finetuning.estimate import pace_of, training_seconds
from transferkit.recipes.finetuning.pace import Pace
from transferkit.recipes.finetuning.run_in_progress import TimeBudget, TrainingRun
from transferkit.reporter import SILENT, Reporter
from transferkit.sampling import evenly_spaced

Prepare = Callable[[FinetuneOptions, Reporter], TrainingRun]
"""Prepares the run that options describe."""

_MARGIN = 0.9
"""Share of the time for training that an estimate may take, because few batches are timed."""

_ENLARGED = 9 / 7
"""Sides of enlarged images as a multiple of the backbone's: 288 pixels for 224."""

_MULTIPLE = 32
"""Networks halve their maps about five times, so sizes are multiples of this many pixels."""

_ENOUGH = 300
"""Steps that are worth their time, however few epochs they take."""

_LOOKED_AT = 33
"""Images whose size is looked at."""

_DRAWN = 200
"""About as many images pass through the network while the page is drawn."""


@dataclass(frozen=True)
class _Choice:
    """What a budget may be spent on.

    Attributes:
        strategy: The strategy.
        unfreeze: What it trains besides the head.
        fewest: The fewest epochs that are worth their time, unless fewer have `_ENOUGH` steps.
        most: The most.
        views: Views per image that take turns while layers are frozen; None for the default.
        is_enlarged: Whether it may take images that are larger than the backbone's.
    """

    strategy: Strategy
    unfreeze: Unfreeze
    fewest: int
    most: int
    views: int | None = None
    is_enlarged: bool = True

    @property
    def name(self) -> str:
        """The choice as plans name it."""
        return str(self.unfreeze if self.strategy is Strategy.PARTIAL else self.strategy)

    def options(self, given: FinetuneOptions, size: ImageSize | None) -> FinetuneOptions:
        """Return the options of a run with the most epochs."""
        return replace(
            given,
            strategy=self.strategy,
            unfreeze=self.unfreeze,
            epochs=self.most,
            # One plain view is not what strong augmentation asks for.
            views=self.views if given.augment is Augment.LIGHT else None,
            patience=0,  # the rates fall over all epochs, so the last ones are the best
            image_size=size if self.is_enlarged else None,
        )


_BEST_FIRST = (
    _Choice(Strategy.FULL, HEAD_ALONE, 8, 20),
    _Choice(Strategy.PARTIAL, last_stages(1), 8, 12),
    _Choice(Strategy.PARTIAL, last_stages(1), 3, 8, views=1),
    _Choice(Strategy.PARTIAL, HEAD_ALONE, 10, 10),
    _Choice(Strategy.PARTIAL, HEAD_ALONE, 10, 10, is_enlarged=False),
)

_FROM_SCRATCH = (_Choice(Strategy.FULL, HEAD_ALONE, 1, 100, is_enlarged=False),)
"""Frozen random weights teach nothing."""


def choose_for_budget(
    options: FinetuneOptions, prepare: Prepare, reporter: Reporter
) -> TrainingRun:
    """Return the best run that the budget suffices for, ready to be carried out.

    Args:
        options: The options as given, with a budget.
        prepare: Prepares the run that options describe.
        reporter: Receives the notices of preparing the chosen run.

    Raises:
        OptionError: When the budget suffices for no run.
    """
    assert options.budget is not None
    seconds = 60 * options.budget
    choices = _FROM_SCRATCH if options.from_scratch else _BEST_FIRST
    plainest = prepare(choices[-1].options(options, None), SILENT)
    plain_pace = pace_of(plainest)
    size = _enlarged_size(plainest) if any(choice.is_enlarged for choice in choices) else None
    passed_over: list[str] = []
    paces: dict[tuple[str, object], Pace] = {}
    for choice in choices:
        trial = _Trial(choice, plainest, plain_pace, seconds)
        if (least := trial.least_seconds()) > trial.available():
            passed_over.append(f"{choice.name}, {describe_seconds(least)} or more")
            continue
        tried = choice.options(options, size)
        try:
            run = prepare(tried, SILENT)
        except OptionError as error:
            passed_over.append(f"{choice.name} ({error})")
            continue
        same = choice.name, tried.image_size  # however many views and epochs
        if same not in paces:
            paces[same] = pace_of(run)
        trial = _Trial(choice, run, paces[same], seconds)
        epochs = trial.most_epochs(choice.most)
        while epochs:
            # With other epochs the head may begin otherwise, which takes other seconds.
            run = prepare(replace(tried, epochs=epochs), reporter)
            trial = replace(trial, run=run)
            if (most := trial.most_epochs(epochs)) == epochs:
                return replace(run, budget=trial.budget(epochs, passed_over))
            epochs = most
        passed_over.append(trial.describe(trial.fewest))
    raise OptionError(
        f"--budget: got {options.budget:g} minutes, expected {trial.minutes_needed():g} or more; "
        f"not enough for {passed_over[-1]}"
    )


def _enlarged_size(run: TrainingRun) -> ImageSize | None:
    """Return a larger image size than the backbone's, if the backbone and the images have it."""
    preprocessing = run.network.preprocessing
    height, width = (
        round(_ENLARGED * side / _MULTIPLE) * _MULTIPLE
        for side in both_sides(preprocessing.image_size)
    )
    enlarged = preprocessing.changed(image_size=(height, width), resize=None)
    if _typical_side(run, needed=max(height, width)) < min(both_sides(preprocessing.image_size)):
        return None  # enlarging shows nothing more
    try:
        run.network.with_preprocessing(enlarged)
    except OptionError:
        return None
    return enlarged.image_size


def _typical_side(run: TrainingRun, needed: int) -> float:
    """Return the median of the images' shorter sides in pixels, which may be reduced to `needed`.

    Raises:
        DataError: When an image can no longer be read.
    """
    rows, sides = run.dataset.rows("train"), []
    for row in rows[evenly_spaced(len(rows), _LOOKED_AT)]:
        file = run.dataset.index.files[row]
        try:
            image = read_image(file, needed, allow_truncated=run.compute.allow_truncated)
        except ImageError as error:
            require_all_readable(run.dataset, [(int(row), str(error))])
        sides.append(min(image.size))
    return median(sides)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A choice on this machine.

    Attributes:
        choice: The choice.
        run: The run of the choice, or a simpler one.
        pace: Its pace.
        seconds: The budget.
    """

    choice: _Choice
    run: TrainingRun
    pace: Pace
    seconds: float

    @property
    def fewest(self) -> int:
        """The fewest epochs that are worth their time with these images."""
        steps = -(-len(self.run.dataset.rows("train")) // self.run.compute.batch_size)
        return min(self.choice.fewest, -(-_ENOUGH // steps))

    def available(self) -> float:
        """Return the seconds that training may be estimated to take from now on."""
        spent = self.run.stopwatch.since_process_began
        return _MARGIN * (self.seconds - spent - self.reserved())

    def reserved(self) -> float:
        """Return the seconds that follow training, and one more validation."""
        val, test = (len(self.run.dataset.rows(part)) for part in ("val", "test"))
        passes = val + min(val, MOST) + test + (_DRAWN if self.run.options.report else 0)
        # The page needs libraries of its own, whose import takes about as long as the first ones.
        return passes * (self.pace.decode + self.pace.forward) + self.run.stopwatch.start_up

    def minutes_needed(self) -> float:
        """Return the minutes that suffice for the fewest epochs, rounded up to tenths."""
        spent = self.run.stopwatch.since_process_began
        seconds = spent + self.reserved() + self.estimated(self.fewest) / _MARGIN
        return ceil(seconds / 6) / 10

    def least_seconds(self) -> float:
        """Return what the fewest epochs take at least, by the pace of a simpler run."""
        train = len(self.run.dataset.rows("train"))
        if self.choice.strategy is not Strategy.FULL:
            return train * self.pace.forward
        # A step passes the images forwards once, and backwards in twice the time.
        return 3 * self.fewest * train * self.pace.forward

    def estimated(self, epochs: int) -> float:
        """Return the seconds that training takes."""
        return training_seconds(self.run, self.pace, epochs)

    def most_epochs(self, most: int) -> int:
        """Return how many epochs fit, up to `most`; 0 if there is no time for the fewest."""
        self.estimated(most)  # times the steps, before it is asked how much time is left
        available = self.available()
        fitting = (
            epochs
            for epochs in range(most, self.fewest - 1, -1)
            if self.estimated(epochs) <= available
        )
        return next(fitting, 0)

    def budget(self, epochs: int, passed_over: Sequence[str]) -> TimeBudget:
        """Return the budget with the choice in words.

        Args:
            epochs: Number of epochs that were chosen.
            passed_over: Better choices that do not fit.
        """
        text = f"{self.seconds / 60:g} min: {self.describe(epochs)}"
        if epochs < self.choice.most:
            text += ", more do not fit"
        if passed_over:
            text += f"; passed over: {'; '.join(passed_over)}"
        reserved = self.reserved()
        spent = self.run.stopwatch.since_process_began
        return TimeBudget(self.seconds, reserved, spent + self.estimated(epochs) + reserved, text)

    def describe(self, epochs: int) -> str:
        """Describe the choice with a number of epochs."""
        size = describe_size(self.run.network.preprocessing.image_size)
        views = f", {self.run.settings.views} views" if self.run.settings.views > 1 else ""
        count = "1 epoch" if epochs == 1 else f"{epochs} epochs"
        seconds = describe_seconds(self.estimated(epochs))
        return f"{self.choice.name} at {size} px{views}, {count}, about {seconds}"
