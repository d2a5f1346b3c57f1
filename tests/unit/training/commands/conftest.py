import hashlib
import json
import shutil

import pytest

from tests.support.bundles import edit_manifest
from tests.support.small_training import SMALL
from training import bundling, data


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Nothing that a command writes lands in the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(monkeypatch):
    """Let commands have a few rows of each data set that is not on every machine."""
    plain = data.load
    monkeypatch.setattr(data, "load", lambda name, folder=None: SMALL[name]() if name in SMALL else plain(name, folder))


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """Let no data set be here but those of scikit-learn."""
    from training.data import fashion_mnist

    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(fashion_mnist, "DEFAULT_DIR", tmp_path / "none")


@pytest.fixture
def refused(command):
    """Run a command that is to fail; returns the one line that it says."""

    def run(*arguments):
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), err
        line = err.splitlines()[-1]
        assert line.startswith("error: ") or " error: " in line
        assert "Traceback" not in err
        return line

    return run


@pytest.fixture
def told(command):
    """Run a command with ``--json``; returns what its last line tells."""

    def run(*arguments):
        code, out, err = command(*arguments, "--json")
        assert code == 0, err
        return json.loads(out.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def _exported(trained, problem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    bundling.export(trained, problem, folder, variants=(), explained=False)
    return folder


@pytest.fixture
def models_dir(_exported, tmp_path):
    """A folder of one bundle, ``mlp/1``, trained on the few pictures; the test's own to change."""
    return shutil.copytree(_exported, tmp_path / "models")


@pytest.fixture
def edited(models_dir):
    """Change the manifest of ``mlp/1``."""
    return lambda change: edit_manifest(models_dir / "mlp" / "1", change)


@pytest.fixture(scope="session")
def digests():
    """Tell the content of every file below a folder."""
    return lambda folder: {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
