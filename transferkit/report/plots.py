"""Plots as PNG files."""

from transferkit.files import whole_file
from transferkit.places import Place
from transferkit.training.lr_range_test import RangeTest

_DPI = 120


def draw_range_test(test: RangeTest, path: Place) -> None:
    """Draw the loss at each learning rate, the smoothed loss and the suggestion.

    Raises:
        OutputError: When the file cannot be written.
    """
    from matplotlib.figure import Figure  # takes half a second to import; most runs need no plot

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(test.rates, test.losses, ".", color="0.7", label="training loss of a batch")
    axes.plot(test.rates, test.smoothed, color="tab:blue", label="smoothed")
    if test.suggestion is not None:
        label = f"suggestion {test.suggestion:.1e}"
        axes.axvline(test.suggestion, color="tab:red", linestyle="--", label=label)
    low, high = min(test.smoothed), max(test.smoothed[0], 1.5 * min(test.smoothed))
    axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate of the head")
    axes.set_ylabel("loss (nats)")
    axes.set_title("Learning rate range test")
    axes.legend()
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
