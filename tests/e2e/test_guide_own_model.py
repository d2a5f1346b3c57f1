"""The guide to a model of one's own is run from its first line to its last, in an empty folder."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.bundle.loader import find_bundles
from tests.support.foreign import hugging_face, prove_as_served
from tests.support.markdown import Block, Page, commands, expect_like_json
from tests.support.server import RunningService, serve
from training.package.config import Config

ROOT = Path(__file__).parents[2]
PAGE = Page.read(ROOT / "docs" / "guides" / "your-own-model.md")
LOCAL = "localhost:8000"
NUMBER = re.compile(r"\d+\.\d+|\d+(?:e-\d+)?")


class Reader:
    """Does what a reader would do, in one folder, with one service at a time."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._service: RunningService | None = None

    def run(self, command: str, status: int) -> str:
        words = shlex.split(command)
        if words[0] == "pip":
            assert "skl2onnx" in (ROOT / "pyproject.toml").read_text()
            return ""
        if words[-4:] == ["python", "-m", "app", "serve"]:
            assert words[0] == "MODELS_DIR=models"
            self._stack.close()
            self._service = self._stack.enter_context(serve(self.folder / "models"))
            return ""
        if words[0] == "curl":
            assert self._service is not None, "nothing is served yet"
            script = command.replace(LOCAL, self._service.url.removeprefix("http://"))
            if shutil.which("curl") is None:
                script = f'curl() {{ {shlex.quote(sys.executable)} -m tests.support.curl "$@"; }}; {script}'
            return self._output(["bash", "-o", "pipefail", "-c", script])
        assert words[:3] == ["python", "-m", "training"], f"nothing knows this command: {command}"
        return self._output([sys.executable, *words[1:]], status)

    def script(self, text: str) -> None:
        (self.folder / "script.py").write_text(text)
        self._output([sys.executable, "script.py"])

    def _output(self, words: list[str], status: int = 0) -> str:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
        environ["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(words, cwd=self.folder, env=environ, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    hugging_face(tmp_path / "film")  # as an exporter leaves it
    with ExitStack() as stack:
        yield Reader(tmp_path, stack)


def shown_after(index: int) -> Block | None:
    following = PAGE.blocks[index + 1 : index + 2]
    return next((block for block in following if block.follows and block.kind in ("json", "text")), None)


def expect_like_text(shown: str, printed: str) -> None:
    """Same words; numbers, where the libraries of the reader may round otherwise, within a tenth."""
    assert NUMBER.sub("#", printed.strip()) == NUMBER.sub("#", shown.strip())
    for told, found in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True):
        assert float(found) == pytest.approx(float(told), abs=0.1)


def test_the_guide_runs(reader: Reader) -> None:
    for index, block in enumerate(PAGE.blocks):
        if block.kind == "python":
            reader.script(block.text)
        elif block.kind == "toml":
            Config.model_validate(tomllib.loads(block.text))
            (reader.folder / block.words[0]).write_text(block.text)
        elif block.kind == "bash":
            status = next((int(word.removeprefix("fails=")) for word in block.words if word.startswith("fails=")), 0)
            printed = "".join(reader.run(command, status) for command in commands(block.text))
            assert "urn:zero-to-one:problem" not in printed
            shown = shown_after(index)
            if shown is not None and shown.kind == "json":
                expect_like_json(json.loads(shown.text), json.loads(printed.splitlines()[-1]))
            elif shown is not None:
                expect_like_text(shown.text, printed)
        else:
            assert shown_after(index - 1) is block, f"nothing is held against the block of line {block.line}"
    written = {ref.name: ref for ref in find_bundles(reader.folder / "models")}
    assert set(written) == {"iris", "flat-iris", "film", "shapes"}
    for ref in written.values():
        prove_as_served(ref.folder)
    assert prove_as_served(written["iris"].folder)[0].manifest.metrics["accuracy"] > 0.9
