"""What it was measured on: the processor and the versions, and nothing that names the machine."""

import os
import platform
import re
import resource
import time
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


class Others:
    """How much everybody else computed meanwhile, the host's other guests included as far as the kernel sees them."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._busy_s, self._own_s = _busy_s(), _own_s()

    def cores(self) -> float:
        """Return how many cores they have kept busy since, in the mean; children count once they have ended."""
        others_s = (_busy_s() - self._busy_s) - (_own_s() - self._own_s)
        return max(0.0, others_s / (time.monotonic() - self._started_at))


def _busy_s() -> float:
    """Return the seconds that all cores together have computed, stolen ones included: proc(5)."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:  # a system without it: others are unknown
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
