"""The notebook tells the tutorial: executed in a real kernel, on a server embedded there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "computation_graph.ipynb"

START_TIMEOUT = 60
CELL_TIMEOUT = 120

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def kernel() -> AsyncKernelManager:
    """A Python kernel of this environment, reached over sockets of the file system."""
    return AsyncKernelManager(kernel_name="python3", transport="ipc")


@pytest.fixture(scope="module")
def cells() -> dict[str, list[Any]]:
    """The outputs of each cell of code, by the cell's id."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, km=kernel(), timeout=CELL_TIMEOUT, startup_timeout=START_TIMEOUT
    )
    client.execute(cleanup_kc=True)
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def shown(outputs: list[Any]) -> str:
    """The text of a cell's value."""
    return next(each.data["text/plain"] for each in outputs if each.output_type == "execute_result")


def printed(outputs: list[Any]) -> str:
    return "".join(each.text for each in outputs if each.get("name") == "stdout")


def test_the_committed_notebook_has_no_outputs_and_nothing_of_a_kernel() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["metadata"] == {}
    for cell in notebook["cells"]:
        tags = {"tags": ["raises-exception"]} if cell["id"] == "error" else {}
        assert cell["metadata"] == tags
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_it_is_a_valid_notebook() -> None:
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("forward", "tensor([25.], grad_fn=<PowBackward0>)"),
        ("backward", "tensor([10.])"),
        ("unrecorded", "(False, None)"),
        ("vjp", "tensor([0.6000, 2.8000])"),
        ("scalar", "tensor([0.6000, 2.8000])"),
        ("after", "tensor([2., 4.])"),
    ],
)
def test_values_are_what_the_text_says(
    cells: dict[str, list[Any]], cell: str, expected: str
) -> None:
    assert shown(cells[cell]) == expected


def test_objects_show_what_they_are(cells: dict[str, list[Any]]) -> None:
    assert re.fullmatch(r"<gradwire\.Session \w+ embedded>", shown(cells["connect"]))
    nodes = r"\(<PowBackward0, node \d+>, <AddBackward0, node \d+>, None, True\)"
    assert re.fullmatch(nodes, shown(cells["nodes"]))
    assert printed(cells["walk"]).split() == ["PowBackward0", "AddBackward0", "AccumulateGrad"]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("picture", ["x", "Add (+2)", "z", "Pow (**2)", "y"]),
        ("dynamic-picture", ["start", "Mul (*2)", "result"]),
        ("loss-graph", ["weight", "bias", "Addmm", "output", "MseLoss", "loss"]),
    ],
)
def test_graphs_are_drawn(cells: dict[str, list[Any]], cell: str, names: list[str]) -> None:
    (output,) = cells[cell]
    assert output.output_type == "execute_result"
    picture = output.data["image/svg+xml"]
    assert picture.startswith("<svg ") and picture.rstrip().endswith("</svg>")
    for name in names:
        assert f">{name}<" in picture
        assert name in output.data["text/plain"]


def test_the_graph_follows_the_loop(cells: dict[str, list[Any]]) -> None:
    assert printed(cells["dynamic"]).splitlines() == [
        "3.0 became 12.0, with derivative 4.0",
        "0.5 became 16.0, with derivative 32.0",
    ]


def test_a_non_leaf_keeps_no_gradient_and_a_warning_says_so(cells: dict[str, list[Any]]) -> None:
    assert printed(cells["non-leaf"]) == "False None\n"
    (warning,) = [each.text for each in cells["non-leaf"] if each.get("name") == "stderr"]
    assert "UserWarning" in warning and "retain_grad()" in warning


def test_the_error_names_cell_line_and_remedy_and_shows_only_the_cell(
    cells: dict[str, list[Any]],
) -> None:
    *said, error = cells["error"]
    assert "".join([each.text for each in said]) == "nobody has looked yet\n"
    assert error.output_type == "error"
    text = ESCAPES.sub("", "\n".join(error.traceback))
    assert "gradient=v" in error.evalue
    assert re.search(r"\n  at Cell In\[\d+\], line 3: y\.backward\(\)$", error.evalue)
    assert text.endswith(error.evalue)
    assert "----> 5 x.grad" in text
    assert "File" not in text, "no frame of the package"


def test_training_finds_the_line(cells: dict[str, list[Any]]) -> None:
    losses = [float(each) for each in re.findall(r"loss (\S+)", printed(cells["training"]))]
    assert len(losses) == 4 and losses[0] > 1 and losses[-1] < 0.02
    slope, offset = (float(each) for each in re.findall(r"-?\d\.\d{4}", shown(cells["learned"])))
    assert slope == pytest.approx(2, abs=0.15) and offset == pytest.approx(-1, abs=0.1)


@pytest.fixture
async def running() -> AsyncIterator[tuple[AsyncKernelManager, AsyncKernelClient]]:
    """A kernel, and a client of it, with nothing run yet."""
    manager = kernel()
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=START_TIMEOUT)
        yield manager, client
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def test_an_interrupted_cell_stops_the_server_and_the_next_cell_works(
    running: tuple[AsyncKernelManager, AsyncKernelClient],
) -> None:
    manager, client = running
    interruptions: list[asyncio.Future[None]] = []

    async def interrupt() -> None:
        await asyncio.sleep(0.2)  # until the cell waits for its value
        await manager.interrupt_kernel()

    def interrupt_soon(message: dict[str, Any]) -> None:
        if message["content"].get("text", "").startswith("sent"):
            interruptions.append(asyncio.ensure_future(interrupt()))

    async def run(source: str) -> dict[str, Any]:
        """Runs a cell; its reply, with the value of `result`."""
        reply = await client.execute_interactive(
            source,
            user_expressions={"result": "result"},
            output_hook=interrupt_soon,
            timeout=CELL_TIMEOUT,
        )
        content: dict[str, Any] = reply["content"]
        return content

    await run("import gradwire as gw; session = gw.connect(); x = gw.zeros(700, 700); result = 0")
    cell = await run(
        "y = x\nfor _ in range(2000):\n    y = y @ y\nprint('sent', flush=True)\ny.sum().item()\n"
    )
    assert len(interruptions) == 1
    assert (cell["status"], cell["ename"]) == ("error", "KeyboardInterrupt")
    cell = await run("result = (x.sum() + 1).item()")
    assert cell["user_expressions"]["result"]["data"]["text/plain"] == "1.0"
    cell = await run("y.sum().item()")
    assert (cell["status"], cell["ename"]) == ("error", "CancelledError")
    assert cell["evalue"].endswith("  at Cell In[2], line 3: y = y @ y")
