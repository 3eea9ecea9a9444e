"""How an option is declared: one annotated field holds its type, default, range, help and names."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from enum import StrEnum
from inspect import signature
from typing import Any, ClassVar, TypeVar, get_args

from transferkit.errors import OptionError, name_some
from transferkit.options.parsers import AUTO
from transferkit.options.values import converted


@dataclass(frozen=True)
class Range:
    """An interval that a number must lie in.

    Attributes:
        low: Lower end.
        high: Upper end.
        open_low: Whether the lower end itself is excluded.
        open_high: Whether the upper end itself is excluded.
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return (
            math.isfinite(value)
            and above
            and (value < self.high if self.open_high else value <= self.high)
        )

    def __str__(self) -> str:
        low = f"more than {self.low:g}" if self.open_low else f"{self.low:g} or more"
        if self.high == math.inf:
            return low
        return f"{low} and {'less than' if self.open_high else 'at most'} {self.high:g}"


class AppliesTo(StrEnum):
    """Which runs an option has an effect on.

    `all`: every run. `fitting`: runs that train a network or fit a classifier. `training`: runs
    that train a network. `features`: runs that extract features.
    """

    ALL = "all"
    FITTING = "fitting"
    TRAINING = "training"
    FEATURES = "features"


class OnResume(StrEnum):
    """What happens to an option when a run is resumed.

    `kept`: the run keeps its own value, and giving another one is an error. `free`: the value may
    change, because the model does not depend on it. `call`: it describes one call, and is not
    recorded.
    """

    KEPT = "kept"
    FREE = "free"
    CALL = "call"


@dataclass(frozen=True, kw_only=True)
class Option:
    """Everything about an option but its type and default, as a field's annotation.

    The type and the default are the field's own, so that type checkers compare them:

        epochs: Annotated[int, Option(help="Passes over the images.", within=Range(1))] = 10

    Attributes:
        help: What it means, for --help.
        argument: Whether it is a positional argument instead of a flag.
        panel: The section of --help that lists it.
        flags: Its names on the command line; `--field-name` where none are given.
        within: The range of a number.
        parse: Turns the command line's text into the value.
        convert: Turns what a Python caller writes into the value; None for the rules of its type.
        metavar: The placeholder for the value in --help.
        show_default: How --help shows the default.
        applies_to: Which runs it has an effect on.
        on_resume: What happens to it when a run is resumed.
        of_tables: Whether it says how a table is read, and needs a table as DATA.
        chosen_by_budget: Whether `--budget` chooses it, or an option that it depends on.
    """

    help: str
    argument: bool = False
    panel: str = "Options"
    flags: tuple[str, ...] = ()
    within: Range | None = None
    parse: Callable[[str], Any] | None = None
    convert: Callable[[Any], Any] | None = None
    metavar: str | None = None
    show_default: str | bool = True
    applies_to: AppliesTo = AppliesTo.ALL
    on_resume: OnResume = OnResume.KEPT
    of_tables: bool = False
    chosen_by_budget: bool = False


@dataclass(frozen=True)
class DeclaredOption:
    """A field of an options class and its declaration.

    Attributes:
        name: The field's name.
        type: Its type, without the annotation.
        default: Its default; `MISSING` where it is required.
        option: The rest of its declaration.
    """

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @property
    def flags(self) -> tuple[str, ...]:
        """Its names on the command line."""
        return self.option.flags or (f"--{self.name.replace('_', '-')}",)

    @property
    def flag(self) -> str:
        """The name that messages use: `--val-fraction`, or `DATA` for an argument.

        For a pair such as `--report/--no-report` it is the one that changes the default.
        """
        if self.option.argument:
            return self.name.upper()
        return self.flags[-1].rpartition("/")[2]


class Options:
    """Base of all options classes; checks and converts its fields when it is created."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __post_init__(self) -> None:
        for declared in declared_options(self):
            value = checked_value(declared, getattr(self, declared.name))
            object.__setattr__(self, declared.name, value)

    @classmethod
    def check_given(cls, given: Mapping[str, Any]) -> None:
        """Check which options were given, with their default or another value.

        Raises:
            OptionError: When one was given that another one chooses.
        """


_O = TypeVar("_O", bound=Options)


def create_options(kind: type[_O], *args: Any, **kwargs: Any) -> _O:
    """Create options from a function's arguments.

    Raises:
        OptionError: When an argument is unknown, missing or given twice, its value cannot work, or
            another option chooses it.
    """
    parameters = signature(kind).parameters
    for name in kwargs:
        if name not in parameters:
            close = resembling_option(kind, name)
            hint = f"did you mean {close}?" if close else f"expected {name_some(list(parameters))}"
            raise OptionError(f"unknown option {name!r}; {hint}")
    try:
        given = signature(kind).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise OptionError(f"{error}; expected {name_some(list(parameters))}") from error
    kind.check_given(given)
    return kind(*args, **kwargs)


def declared_options(options: Options | type[Options]) -> tuple[DeclaredOption, ...]:
    """Return the options of a class, inherited ones first."""
    found = []
    for entry in fields(options):
        kind, option = get_args(entry.type)
        found.append(DeclaredOption(entry.name, kind, entry.default, option))
    return tuple(found)


def resembling_option(kind: type[Options], name: str) -> str | None:
    """Return the name of the option that a name resembles, or whose flag it does; None if none."""
    declared = declared_options(kind)
    flags = {flag.lstrip("-"): entry.name for entry in declared for flag in entry.flags}
    known = flags | {entry.name: entry.name for entry in declared}
    close = get_close_matches(name, known, n=1)
    return known[close[0]] if close else None


def option_names(
    options: Options | type[Options],
    *,
    applies_to: AppliesTo | None = None,
    on_resume: OnResume | None = None,
) -> tuple[str, ...]:
    """Names of the options that are declared so; None takes any."""
    return tuple(
        declared.name
        for declared in declared_options(options)
        if applies_to in (None, declared.option.applies_to)
        and on_resume in (None, declared.option.on_resume)
    )


def given_flags(options: Options, names: Iterable[str]) -> list[str]:
    """Return the flags of those named options that differ from their default."""
    known = {declared.name: declared for declared in declared_options(options)}
    return [known[name].flag for name in names if getattr(options, name) != known[name].default]


def checked_value(declared: DeclaredOption, value: Any) -> Any:
    """Return the value of an option as its type.

    Raises:
        OptionError: When it is of another type, or out of range.
    """
    option = declared.option
    try:
        if option.convert:
            value = option.convert(value)
        elif option.parse and isinstance(value, str):
            value = option.parse(value)
        else:
            value = converted(declared.type, value)
    except OptionError:
        raise
    except ValueError as error:
        # Only a file or Python gives a wrong value to --report/--no-report: to the key `report`.
        flag = declared.flag if option.argument else declared.flags[-1].partition("/")[0]
        raise OptionError(f"{flag}: {error}") from error
    _require_within(declared, value)
    return value


def _require_within(declared: DeclaredOption, value: Any) -> None:
    within = declared.option.within
    if within is None:
        return
    for number in value if isinstance(value, tuple) else (value,):
        if number not in (None, AUTO) and number not in within:
            raise OptionError(f"{declared.flag}: got {number}, expected {within}")
