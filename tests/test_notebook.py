"""In a real kernel: what a notebook shows of a run, twice, interrupted, and of other results."""

import os
import re
import signal
import time
from contextlib import contextmanager
from threading import Thread

import nbformat
import pytest
from nbclient import NotebookClient

SETTINGS = 'dict(backbone="edges8", image_size=32, workers=1, device="cpu")'
QUICK = f"**{SETTINGS}"


def executed(cells: list[str], folder) -> list[nbformat.NotebookNode]:
    """Return the executed cells of a notebook."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook.cells


def shown(cell) -> list[str]:
    """Return the HTML that a cell shows."""
    return [one.data["text/html"] for one in cell.outputs if "text/html" in one.get("data", {})]


def printed(cell) -> str:
    """Return what a cell prints."""
    return "".join(one.text for one in cell.outputs if one.output_type == "stream")


@pytest.fixture(scope="module")
def cells(few_images, tmp_path_factory):
    """Cells that train twice, look at the data, and end without a page."""
    train = f'result = transferkit.finetune(r"{few_images}", epochs=3, {QUICK})\nresult'
    return executed(
        [
            "import transferkit",
            train,
            train,
            f'transferkit.finetune(r"{few_images}", report=False, epochs=1, {QUICK})',
            f'transferkit.audit(r"{few_images}", {QUICK})',
            f'transferkit.finetune(r"{few_images}", dry_run=True, {QUICK})',
        ],
        tmp_path_factory.mktemp("notebook"),
    )


def test_notebook__shows_the_plan_each_epoch_once_and_the_page(cells):
    plan, epochs, page = shown(cells[1])

    assert plan.strip().startswith("<details><summary>Plan</summary>")
    assert re.findall(r"<td>(\d/\d)</td>", epochs) == ["1/3", "2/3", "3/3"]
    assert page.startswith('<iframe sandbox="" srcdoc="')
    assert "Most confident mistakes" in page
    assert printed(cells[1]) == ""


def test_notebook__trains_again_into_another_folder(cells):
    assert len(shown(cells[2])) == 3
    assert "-2" in shown(cells[2])[-1]


def test_notebook__without_a_page_shows_the_figures(cells):
    figures = shown(cells[3])[-1]

    assert "<th>validation</th>" in figures
    assert "iframe" not in figures


def test_notebook__shows_an_audit_whose_script_may_save_decisions(cells):
    assert '<iframe sandbox="allow-scripts allow-downloads" srcdoc="' in shown(cells[4])[-1]


def test_notebook__shows_the_plan_of_a_dry_run(cells):
    assert "<details open><summary>Plan</summary>" in shown(cells[5])[-1]


def test_notebook__interrupted_keeps_the_state_and_resumes(image_folder, tmp_path):
    begun = f'transferkit.finetune(r"{image_folder}", "run", strategy="full", {QUICK}, '
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(one)
            for one in (
                "import transferkit",
                f"{begun} epochs=3000, patience=3000, report=False)",
            )
        ]
    )
    client = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}, allow_errors=True
    )
    with client.setup_kernel():
        client.execute_cell(notebook.cells[0], 0)
        with interrupting(client, once=tmp_path / "run/checkpoint"):
            client.execute_cell(notebook.cells[1], 1)

    assert [one.get("ename") for one in notebook.cells[1].outputs][-1] == "KeyboardInterrupt"
    assert "Resume it with resume=True" in "".join(shown(notebook.cells[1]))
    assert (tmp_path / "run/checkpoint").is_dir()


@contextmanager
def interrupting(client, *, once):
    """Interrupt the kernel, as its button does, once a file is there."""

    def watch() -> None:
        while not once.exists():
            time.sleep(0.05)
        os.kill(client.km.provisioner.pid, signal.SIGINT)

    watching = Thread(target=watch)
    watching.start()
    yield
    watching.join()
