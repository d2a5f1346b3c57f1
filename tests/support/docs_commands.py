"""Runs the commands that the documentation shows, or holds them against what they name."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from opentelemetry.sdk import environment_variables

from app.settings import PREFIX, Settings
from tests.support import clis
from tests.support.markdown import Block
from tests.support.pages import CLIENT, ROOT
from tests.support.server import RunningService

LOCAL = "localhost:8000"
# where the machine has no curl, one that knows the options of the examples
USES_CURL_OF_OURS = shutil.which("curl") is None
CURL_OF_OURS = f'curl() {{ {shlex.quote(sys.executable)} -m tests.support.curl "$@"; }}; '


def run(command: str, block: Block, service: RunningService) -> str:
    """Run a command, or check what it names; return what it prints."""
    words = shlex.split(command)
    if words[0] == "export":
        return ""
    if "|" in words and "curl" not in words:
        at = words.index("|")
        return run(shlex.join(words[:at]), block, service) + run(shlex.join(words[at + 1 :]), block, service)
    environ: dict[str, str] = {}
    while "=" in words[0]:
        name, _, environ[name] = words.pop(0).partition("=")
    fails = [int(word.removeprefix("fails=")) for word in block.words if word.startswith("fails=")]
    if "curl" in words:
        script = command.replace(LOCAL, service.url.removeprefix("http://"))
        return output(["bash", "-o", "pipefail", "-c", (CURL_OF_OURS if USES_CURL_OF_OURS else "") + script])
    if words[:2] == ["python", "-m"] and fails:
        return output([sys.executable, *words[1:]], environ, status=fails[0])
    check_environ(environ)
    checks = {
        "make": check_make,
        "docker": check_docker,
        "python": check_module,
        "torchrun": check_torchrun,
        "pip": check_pip,
        "apt-get": check_apt,
        **dict.fromkeys(clis.TOOLS, clis.check),
    }
    if words[0] not in checks:
        raise AssertionError(f"no check knows this command, so nothing says that it is right: {command}")
    return checks[words[0]](words) or ""


def output(words: list[str], environ: Mapping[str, str] | None = None, *, status: int = 0) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=inherited | (dict(environ or {})))
    assert done.returncode == status, done.stderr
    return done.stdout or (done.stderr if status else "")


def check_environ(environ: Mapping[str, str]) -> None:
    Settings.from_environ(environ)
    others = {"DATA_DIR", "PORT", *re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())}
    others |= {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    assert [name for name in environ if not name.startswith(PREFIX) and name not in others] == []


def check_make(words: list[str]) -> None:
    done = subprocess.run(["make", "--dry-run", *words[1:]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert {word for word in words[1:] if "=" not in word} <= make_targets()


def check_docker(words: list[str]) -> None:
    """Hold the stage, the image and the compose file that a command names against what there is."""
    stages = set(re.findall(r"^FROM .* AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    if words[1] == "compose":
        composed = (ROOT / "docker-compose.yml").read_text()
        profiles = {value for option, value in pairwise(words) if option == "--profile"}
        assert all(f"profiles: [{profile}]" in composed for profile in profiles)
        return
    assert words[1] in ("build", "run", "stop", "logs", "inspect", "exec", "rm", "login", "push", "tag")
    for option, value in pairwise(words):
        if option == "--target":
            assert value in stages
    for word in words:
        if word.startswith("zero-to-one:"):
            assert word.removeprefix("zero-to-one:") in stages


def check_module(words: list[str]) -> str | None:
    """Run what is quick, and let the parser of the others say whether they would take the words."""
    assert words[1] == "-m"
    module, arguments = words[2], words[3:]
    if (module, arguments) in [("app", ["settings"]), ("app", ["schema"]), ("training", ["list"])]:
        return output([sys.executable, *words[1:]])
    if (module, arguments[0]) == ("app", "admin"):
        importlib.import_module("app.admin.command").parser().parse_args(arguments[1:])
    elif module == "app":
        assert f"'{arguments[0]}'" not in output([sys.executable, "-m", "app", arguments[0], "--help"])
    elif module == "training":
        importlib.import_module("training.cli")._parser().parse_args(arguments)
    elif module == "benchmarks":
        importlib.import_module("benchmarks.__main__")._parse(arguments)
    else:
        raise AssertionError(f"no check knows the module {module}")
    return None


def check_torchrun(words: list[str]) -> None:
    """Let the parser of torchrun take its own words, and that of the module the others."""
    from torch.distributed.run import get_args_parser

    taken = get_args_parser().parse_args(words[1:])
    assert taken.module
    check_module(["python", "-m", taken.training_script, *taken.training_script_args])


def check_pip(words: list[str]) -> None:
    projects: dict[str, Any] = {}
    for place, folder in ((".", ROOT), ("./clients/python", CLIENT)):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        projects |= {place: project, project["name"]: project}
    assert words[1] == "install"
    for word in words[2:]:
        name, _, extras = word.removesuffix("]").partition("[")
        options = ("--editable", "-e", "--constraint", "-c", "requirements/constraints.txt")
        assert name in projects or name in options
        assert set(filter(None, extras.split(","))) <= set(projects.get(name, {}).get("optional-dependencies", ()))


def check_apt(words: list[str]) -> None:
    """The package that is told to be installed is the one that training itself tells to install."""
    assert words[1] == "install"
    source = (ROOT / "training" / "data" / "fashion_mnist.py").read_text()
    assert all(f"apt-get install {word}" in source for word in words[2:])


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
