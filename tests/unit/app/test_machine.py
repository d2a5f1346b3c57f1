import os
from importlib.metadata import version

from app import machine


def test_what_is_installed_is_named_with_its_version_and_nothing_else() -> None:
    assert machine.versions("numpy", "no-such-package") == {"numpy": version("numpy")}
    assert machine.versions() == {}


def test_it_tells_what_figures_depend_on_and_not_whose_machine_it_is() -> None:
    told = machine.describe()
    assert told["processor"] == machine.processor() != ""
    assert told["cores"] == str(machine.num_cores())
    assert f"numpy {version('numpy')}" in told["packages"]
    assert os.uname().nodename not in " ".join(told.values())
