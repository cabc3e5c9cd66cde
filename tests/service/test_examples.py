"""What a newcomer runs: the examples, the demo, and the README's snippets as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text()

TIMEOUT = 180


def run(folder: Path, *command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments in a folder."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def fences(language: str) -> list[str]:
    """The README's blocks of code in one language; "" for those that name none."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("where", ["embedded", "elsewhere"])
def test_the_ten_facts_hold(tmp_path: Path, address: str, where: str) -> None:
    place = [] if where == "embedded" else ["--address", address]
    done = run(tmp_path, str(EXAMPLES / "computation_graph.py"), *place)
    titles = re.findall(r"^(\d+)\. ", done.stdout, re.MULTILINE)
    assert titles == [str(number) for number in range(1, 11)]
    assert "y.grad_fn = 'PowBackward0'  ok" in done.stdout
    assert "expected" not in done.stdout
    assert (tmp_path / "out" / "computation_graph.svg").read_text().startswith("<svg ")


def test_the_demo_walks_them(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    done = run(tmp_path, "-m", "gradwire_server", "demo", "--out", str(picture))
    assert "x.grad = 10.0  ok" in done.stdout
    assert picture.read_text().startswith("<svg ")


@pytest.mark.parametrize("how", [[], ["--compiled"]], ids=["step by step", "compiled"])
def test_a_network_learns_digits(tmp_path: Path, address: str, how: list[str]) -> None:
    done = run(tmp_path, str(EXAMPLES / "digits.py"), "--address", address, *how)
    found = re.search(r"test accuracy: ([\d.]+)%", done.stdout)
    assert found is not None and float(found[1]) > 95


@pytest.mark.parametrize("snippet", fences("python"))
def test_the_readmes_python_prints_what_it_says(tmp_path: Path, snippet: str) -> None:
    """A comment after a print begins with what it prints."""
    (tmp_path / "snippet.py").write_text(snippet)
    printed = run(tmp_path, "snippet.py").stdout.splitlines()
    said = re.findall(r"^ *print\(.*\)  +# (.*)$", snippet, re.MULTILINE)
    assert said and len(said) == len(printed)
    for comment, line in zip(said, printed, strict=True):
        assert re.match(rf"{re.escape(line)}(,|$)", comment)
    if "graph.svg" in snippet:
        assert (tmp_path / "graph.svg").read_text().startswith("<svg ")


def test_the_readmes_error_is_the_one_that_is_raised(tmp_path: Path) -> None:
    (error,) = (each for each in fences("") if "Error: " in each)
    found = re.search(r"at train\.py:(\d+): y\.backward\(\)", error)
    assert found is not None
    program = textwrap.dedent("""\
        import gradwire as gw
        session = gw.connect()
        x = gw.tensor([1.0, 2.0], requires_grad=True)
        y = x**2
    """)
    above = "\n" * (int(found[1]) - 1 - program.count("\n"))
    (tmp_path / "train.py").write_text(f"{above}{program}y.backward()\nprint(x.grad)\n")
    done = run(tmp_path, "train.py", status=1)
    assert " ".join(done.stderr.split()).endswith(" ".join(error.split()))


@pytest.mark.parametrize("document", ["functional.md", "functions.md", "programs.md"])
def test_the_examples_of_a_document_print_what_they_say(
    capsys: pytest.CaptureFixture[str], address: str, document: str
) -> None:
    """A comment after a print is what it prints; the examples are one program."""
    text = (ROOT / "docs" / document).read_text()
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    names: dict[str, Any] = {}
    exec(program.replace("gw.connect()", f"session = gw.connect({address!r})"), names)
    names["session"].close()
    said = re.findall(r"^print\(.*\)  +# (.*)$", program, re.MULTILINE)
    assert said
    assert capsys.readouterr().out.splitlines() == said
