"""What keys, rate limits and the log of requests cost: the benchmark ``guarded``, as a drill."""

from benchmarks.calm import Patience
from benchmarks.findings import Setting as BenchmarkSetting
from benchmarks.scenarios import guarded
from tests.drills.drill import Found, Setting

TITLE = "key checks, rate limits and a line in the log for each request"
BAR = "at most 6% slower than off (processor time a request, JSON)"
LIMIT_S = 900
_PATIENCE_S = 300.0


def run(setting: Setting) -> Found:
    """Ask the service with and without them, in turn."""
    finding = guarded.measure(
        BenchmarkSetting(
            rounds=1 if setting.is_short else 5,
            seconds=0.2 if setting.is_short else 2.0,
            warm_up_s=0.1 if setting.is_short else 0.5,
            server_core=setting.server_core,
            load_core=setting.load_core,
            patience=Patience(0.0 if setting.is_short else _PATIENCE_S),
            tell=setting.tell,
            is_quick=setting.is_short,
        )
    )
    (bar,) = finding.bars
    misses = [] if setting.is_short or bar.is_met else [f"{bar.measured} slower"]
    if finding.raw["failures"]:
        misses.append(f"{finding.raw['failures']} requests failed")
    return Found(
        line=f"{bar.measured} more processor time a request, over {len(finding.raw['turns'])} turns",
        misses=tuple(misses),
        figures={"slower": finding.raw["slower"], "turns": finding.raw["turns"]},
    )
