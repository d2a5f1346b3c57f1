"""Looks at the models folder again and again, and has what has changed there loaded, as an operator would.

A bundle arrives by being renamed into place, whole. One that is copied there piece by piece is waited for: as long as
its files change between two looks, or its manifest names files that are not there in full, it is left alone. One that
stays like that is offered all the same after a while, so that its reason is told where every reason is.

Where several workers serve, one of them looks; what it finds goes the way of every command. What the folder held when
a command was given goes with the command, so that another worker that takes over does not offer it again.
"""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from app.bundle.loader import BundleRef, find_bundles, open_bundle
from app.errors import BundleError, Overloaded, ServingError
from app.serving.orders import Outcome
from app.serving.threads import on_daemon_thread
from app.serving.versions import files_of

logger = logging.getLogger("app.polling")

# what is incomplete and does not change over so many looks is offered, and fails with its reason
PATIENCE_LOOKS = 5
# a model may be large and its storage slow; the command goes on in any case
_WITHIN_S = 600.0


class Models(Protocol):
    """What the poller needs of :class:`app.serving.repository.Repository`."""

    @property
    def leads(self) -> bool:
        """Whether this worker is the one that looks."""
        ...

    def offered(self, name: str) -> str:
        """Return what was last offered of a model; empty where nothing was."""
        ...

    def known(self, name: str) -> frozenset[int]:
        """Return the versions of a model that there are here, in whatever state."""
        ...

    def is_wanted(self, name: str) -> bool:
        """Whether a model is to serve: one that an operator has unloaded is left alone."""
        ...

    async def load(self, name: str, *, within_s: float, offered: str) -> Outcome:
        """Have it loaded; see :meth:`app.serving.repository.Repository.load`."""
        ...


@dataclass(slots=True)
class _Sight:
    """One version's folder as it was last seen, and for how many looks it has been so."""

    print: str
    looks: int = 1


class Poller:
    """Looks, and offers.

    Args:
        models_dir: Where bundles lie.
        models: Told of what has changed.
    """

    def __init__(self, models_dir: Path, models: Models) -> None:
        self._models_dir = models_dir
        self._models = models
        self._seen: dict[BundleRef, _Sight] = {}
        self._told: dict[BundleRef, str] = {}
        self._handled: dict[str, str] = {}
        self._is_missing = False

    async def begin(self) -> None:
        """Take the folder as it is: what lies there now is loaded at the start, or fails then.

        But for what has come since the start.
        """
        for name, prints in _by_model(await on_daemon_thread(self._look)).items():
            if {ref.version for ref in prints} == self._models.known(name):
                self._handled[name] = _digest(prints)

    async def run(self, every_s: float) -> None:
        """Look again and again, until canceled."""
        has_begun = False
        while True:
            try:
                if not has_begun:
                    await self.begin()
                    has_begun = True
                elif self._models.leads:
                    await self.turn()
            except BundleError as exc:
                logger.warning("%s; it is looked at again", exc)
            except Exception:  # a defect of ours, that must not end the looking
                logger.exception("the models folder could not be looked at")
            await asyncio.sleep(every_s)

    async def turn(self) -> None:
        """Look once, and offer what has changed and stays as it is."""
        try:
            found = await on_daemon_thread(self._look)
        except BundleError as exc:
            if not self._is_missing:
                logger.warning("%s; what is served of it goes on", exc)
            self._is_missing = True
            return
        self._is_missing = False
        settled = await on_daemon_thread(partial(self._settled, found))
        for name in sorted({*_by_model(found), *self._handled}):
            await self._offer(name, found, settled)

    async def _offer(self, name: str, found: Mapping[BundleRef, str], settled: set[BundleRef]) -> None:
        mine = {ref: print_ for ref, print_ in found.items() if ref.name == name}
        digest = _digest(mine)
        if digest in (self._handled.get(name), self._models.offered(name)):
            self._handled[name] = digest
            return
        if not all(ref in settled for ref in mine) or not self._models.is_wanted(name):
            return
        handled, self._handled[name] = self._handled.get(name), digest
        if not mine:
            logger.warning("the folder of %s holds no version any more; what is served of it goes on", name)
            return
        logger.info("%s has changed in the models folder", name)
        try:
            await self._models.load(name, within_s=_WITHIN_S, offered=digest)
        except Overloaded as exc:  # nobody has tried it
            logger.warning("what has changed of %s is offered again: %s", name, exc)
            self._handled[name] = handled or ""
        except ServingError as exc:  # told where it belongs, and tried again once it changes
            logger.error("what has changed of %s is not served, or not all of it: %s", name, exc)

    def _look(self) -> dict[BundleRef, str]:
        return {ref: _print(ref.folder) for ref in find_bundles(self._models_dir)}

    def _settled(self, found: Mapping[BundleRef, str]) -> set[BundleRef]:
        """Return the versions that are as they were at the last look, and whole, or that nobody goes on with."""
        seen = {}
        settled = set()
        for ref, print_ in found.items():
            before = self._seen.get(ref)
            sight = seen[ref] = (
                _Sight(print_, before.looks + 1) if before and before.print == print_ else _Sight(print_)
            )
            if sight.looks < 2:
                continue
            if sight.looks == 2:
                self._tell(ref, lacking(ref))
            if ref not in self._told or sight.looks > PATIENCE_LOOKS:
                settled.add(ref)
        self._seen = seen
        self._told = {ref: lack for ref, lack in self._told.items() if ref in seen}
        return settled

    def _tell(self, ref: BundleRef, lack: str | None) -> None:
        if lack is None:
            self._told.pop(ref, None)
            return
        if self._told.get(ref) != lack:
            logger.warning("%s/%d is not whole, and is waited for: %s", ref.name, ref.version, lack)
        self._told[ref] = lack


def lacking(ref: BundleRef) -> str | None:
    """Tell what of a bundle is not there in full; None where all is. Digests are checked when it is loaded."""
    try:
        bundle = open_bundle(ref)
    except BundleError as exc:
        return str(exc)
    for file in files_of(bundle.manifest):
        try:
            size_bytes = (ref.folder / file.path).stat().st_size
        except OSError as exc:
            return f"{file.path}: {exc.strerror or exc}"
        if size_bytes != file.size_bytes:
            return f"{file.path} has {size_bytes} bytes, the manifest says {file.size_bytes}"
    return None


def _print(folder: Path) -> str:
    """Return what tells one state of a folder's files from another, without reading them."""
    found = []
    try:
        for path in folder.rglob("*"):
            status = path.stat()
            found.append(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns} {status.st_ino}")
    except OSError as exc:  # it is being taken away or put there
        found.append(str(exc))
    return hashlib.sha256("\n".join(sorted(found)).encode("utf-8", "surrogateescape")).hexdigest()


def _by_model(found: Mapping[BundleRef, str]) -> dict[str, dict[BundleRef, str]]:
    models: dict[str, dict[BundleRef, str]] = {}
    for ref, print_ in found.items():
        models.setdefault(ref.name, {})[ref] = print_
    return models


def _digest(prints: Mapping[BundleRef, str]) -> str:
    return hashlib.sha256("\n".join(f"{ref.version} {prints[ref]}" for ref in sorted(prints)).encode()).hexdigest()
