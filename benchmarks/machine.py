"""What it was measured on: the processor and the versions, and nothing that names the machine."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("fastapi", "httptools", "numpy", "onnxruntime", "orjson", "pydantic", "pysimdjson", "uvicorn", "uvloop")


def describe() -> dict[str, str]:
    """Return label and value of everything that figures depend on."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "Python": platform.python_version(),
        "packages": ", ".join(f"{package} {version(package)}" for package in PACKAGES),
    }


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
