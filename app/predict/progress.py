"""How far it is, for who watches: a bar on a terminal, a line every few seconds where one is asked for elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

LINE_EVERY_S = 5.0


class Progress:
    """Tells on the standard error how far it is.

    Args:
        is_shown: Whether anything is told; None for on a terminal only.
        total: Of the input.
        done: Of it, that was read before.
        unit: Of both.
        clock: Seconds.
    """

    def __init__(
        self,
        *,
        is_shown: bool | None,
        total: int,
        done: int,
        unit: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._clock = clock
        self._begun_at = self._told_at = clock()
        self._rows = 0
        is_terminal = sys.stderr.isatty()
        self._is_shown = is_terminal if is_shown is None else is_shown
        self._bar: Any = None
        if self._is_shown and is_terminal:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(
                total=total, initial=done, unit=unit, unit_scale=True, dynamic_ncols=True, smoothing=0.1, leave=False
            )  # fmt: skip

    def tell(self, done: int, rows: int, rejected: int) -> None:
        """Show it.

        Args:
            done: Of the input.
            rows: More that are answered or set aside.
            rejected: All that were set aside.
        """
        self._rows += rows
        if self._bar is not None:
            self._bar.set_postfix_str(self._words(rejected), refresh=False)
            self._bar.update(done - self._bar.n)
        elif self._is_shown and self._clock() - self._told_at >= LINE_EVERY_S:
            self._told_at = self._clock()
            share = done / self._total if self._total else 1.0
            sys.stderr.write(f"{share:.0%}, {self._words(rejected)}\n")

    def _words(self, rejected: int) -> str:
        rate = self._rows / max(1e-9, self._clock() - self._begun_at)
        return f"{self._rows} rows, {rate:.0f} rows/s" + (f", {rejected} rejected" if rejected else "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
