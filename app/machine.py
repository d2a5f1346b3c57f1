"""What figures depend on: the processor, its cores that this process may use, and the versions of what computes."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "orjson", "pydantic", "pysimdjson", "torch", "uvicorn", "uvloop")


def processor() -> str:
    """Return the name of the processor, as its maker writes it."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def num_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe() -> dict[str, str]:
    """Return label and value of everything that figures depend on, and nothing that names the machine."""
    return {
        "processor": processor(),
        "cores": str(num_cores()),
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {number}" for name, number in versions(*PACKAGES).items()),
    }
