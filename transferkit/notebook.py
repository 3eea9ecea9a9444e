"""What notebooks show of a run while it runs: notices, the plan, a bar, a row per epoch.

IPython and tqdm are imported only in a notebook.
"""

import builtins
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from importlib.util import find_spec
from typing import Any

from transferkit.report.embedding import summary
from transferkit.reporter import (
    SILENT,
    EpochRow,
    LeftOut,
    Plan,
    Progress,
    Reporter,
    SilentReporter,
)


def default_reporter() -> Reporter:
    """Return what Python callers see of a run: all in a notebook, nothing elsewhere."""
    return NotebookReporter() if _is_notebook() else SILENT


def _is_notebook() -> bool:
    # IPython adds this function; asking it for itself would import it everywhere.
    shell = getattr(builtins, "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class NotebookReporter(SilentReporter):
    """Shows a run below the cell that runs it."""

    def __init__(self) -> None:
        self._rows: list[str] = []
        self._table: Any = None

    def notice(self, message: str) -> None:
        """Show a line."""
        _show(f"<p>{escape(message)}</p>", message)

    def left_out(self, left_out: Sequence[LeftOut]) -> None:
        """Show the images that cannot be read, folded."""
        unreadable = [item for item in left_out if item.unreadable]
        if not unreadable:
            return
        lines = [f"{item.path}: {item.reason}" for item in unreadable]
        listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
        title = f"{len(lines)} images cannot be read"
        _show(f"<details><summary>{title}</summary><ul>{listed}</ul></details>", title)

    def plan(self, plan: Plan) -> None:
        """Begin a run: show its plan, folded."""
        self._rows, self._table = [], None
        text = "\n".join(f"{name}: {value}" for name, value in plan.settings)
        _show(summary(plan, {}, is_folded=True), text)

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Add a row to the table of epochs, bold if it is the best so far."""
        values = (
            f"{row.epoch}/{epochs}", row.phase, f"{row.train_loss:.4f}",
            f"{row.train_accuracy:.3f}", f"{row.val_loss:.4f}", f"{row.val_accuracy:.3f}",
            f"{row.lr_head:.1e}", f"{row.lr_backbone:.1e}" if row.lr_backbone else "frozen",
            f"{row.seconds:.1f}\u00a0s",
        )  # fmt: skip
        weight = "bold" if best else "normal"
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        self._rows.append(f'<tr style="font-weight:{weight}">{cells}</tr>')
        content = _content(f"<table>{_HEADING}{''.join(self._rows)}</table>", " ".join(values))
        if self._table:
            self._table.update(content, raw=True)
        else:
            self._table = _display(content, display_id=True)

    def resumable(self, command: str) -> None:
        """Show how the interrupted run is resumed."""
        self.notice(f"interrupted; its state is kept. Resume it with resume=True, or: {command}")

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Progress]:
        """Show a bar that disappears at the end of the block."""
        # Without the widgets, tqdm draws its bar with characters.
        if find_spec("ipywidgets"):
            from tqdm.notebook import tqdm
        else:
            from tqdm.std import tqdm
        with tqdm(total=total, desc=description, unit=" images", leave=False) as bar:
            yield _Bar(bar)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, count: int, detail: str = "") -> None:
        self._bar.set_postfix_str(detail, refresh=False)
        self._bar.update(count)


_HEADING = "".join(
    f"<th>{name}</th>"
    for name in (
        *("epoch", "trained", "loss", "accuracy", "validation loss", "validation accuracy"),
        *("learning rate", "of the backbone", "time"),
    )
)


def _show(html: str, text: str) -> None:
    _display(_content(html, text))


def _content(html: str, text: str) -> dict[str, str]:
    return {"text/html": html, "text/plain": text}


def _display(content: dict[str, str], **how: Any) -> Any:
    from IPython.display import display

    return display(content, raw=True, **how)
