"""What a part of the benchmarks hands over to the page, and what it is told when it starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.calm import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One promise, and what came of it.

    Attributes:
        what: Is promised.
        bar: What it has to reach.
        measured: What was found, in the same words.
        is_met: Whether it did.
        aim: What would be better still; empty where there is none.
        is_aim_met: Whether it is.
    """

    what: str
    bar: str
    measured: str
    is_met: bool
    aim: str = ""
    is_aim_met: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one part found: it becomes a section of docs/benchmarks.md, and its bars lines of the table of bars.

    Attributes:
        title: Of the section, without ``#``.
        bars: Promises that this part can judge; may be none.
        table_markdown: One or more Markdown tables, with blank lines between.
        notes: Paragraphs below the tables, broken anew by the page: how it was measured, and how to read it.
        raw: All figures of all rounds, as JSON can hold them; stored beside the page.
    """

    title: str
    bars: tuple[Bar, ...]
    table_markdown: str
    notes: str
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a part is told.

    Attributes:
        rounds: How often to start anew and measure.
        seconds: Measured for each load.
        warm_up_s: Before each, uncounted.
        server_core: Where servers run; see :func:`benchmarks.servers.pinned`.
        load_core: Where the load is made.
        patience: With other work on the machine.
        tell: Told of every step, for who watches.
        is_quick: Only to see that it works: figures do not matter, and a part takes a few seconds.
    """

    rounds: int
    seconds: float
    warm_up_s: float
    server_core: int
    load_core: int
    patience: Patience
    tell: Callable[[str], None]
    is_quick: bool = False
