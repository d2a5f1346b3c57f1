"""Which shadows there are in this process, as the policies of the models wish; and when one may be promoted.

A shadow begins once both its versions are ready, and ends when one of them is not any more, is replaced, or the policy
says otherwise. So nobody who changes what is served has to think of shadows: :class:`Shadows` looks around by itself.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from app.comparison import Comparison
from app.errors import NotPromotable
from app.metrics import Metrics
from app.serving.policy import Shadow as Wish
from app.serving.shadow import Key, Shadow
from app.serving.versions import Model, State, Version

logger = logging.getLogger("app.shadow")

# between two looks whether the shadows are those that are wished
LOOK_S = 0.25


class Standing(NamedTuple):
    """How a shadow stands, all processes together.

    Attributes:
        wish: What the policy says of it.
        serving: The number of the version that it is or was last compared with; None before the first comparison.
        comparison: What was found, the last time where nothing is compared now.
        definition: When two answers agree; None while nothing is compared.
        waits_because: Why nothing is compared in this process; None where something is.
    """

    wish: Wish
    serving: int | None
    comparison: Comparison
    definition: str | None
    waits_because: str | None

    def refusal(self, *, min_agreement: float | None = None, min_rows: int | None = None) -> str | None:
        """Return why it may not be promoted; None where it may.

        Args:
            min_agreement: In place of that of the policy.
            min_rows: Likewise.
        """
        needed_rows = self.wish.min_rows if min_rows is None else min_rows
        needed = self.wish.min_agreement if min_agreement is None else min_agreement
        found = self.comparison
        shadow = f"version {self.wish.version}"
        if self.waits_because is not None:
            return f"there is no comparison: {self.waits_because}"
        if found.failed:
            return f"{shadow} had no answer for {found.failed} of {found.compared + found.failed} rows"
        if found.agreement is None or found.compared < needed_rows:
            return (
                f"{found.compared} rows of {shadow} were compared with version {self.serving}, "
                f"and {needed_rows} are asked for"
            )
        if found.agreement < needed:
            return (
                f"{shadow} agrees with version {self.serving} on {found.agreed} of {found.compared} rows, "
                f"{found.agreement:.6g}, and {needed:g} is asked for"
            )
        return None


class Shadows:
    """Sees to it that each model has the shadow that its policy wishes.

    Args:
        models: By name; more may come.
        metrics: Told of every row.
        clock: Monotonic seconds.
    """

    def __init__(
        self, models: Mapping[str, Model], metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._clock = clock
        self._shadows: dict[str, Shadow] = {}
        self._ended: dict[str, Shadow] = {}  # the last of each model that has
        self._keys: dict[str, Key] = {}  # of the last comparison of each model, which may have come to an end
        self._timer: asyncio.TimerHandle | None = None
        metrics.add_gauge(
            "zto_shadow_max_difference", "Largest difference between an output of a shadow and of the version that "
            "answers.", ("model", "version"), self._max_differences, combine=max,
        )  # fmt: skip

    def start(self) -> None:
        """Look around from now on, until :meth:`close`."""
        self.settle()
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self.start)

    def close(self) -> None:
        """End all shadows, and look no more."""
        if self._timer is not None:
            self._timer.cancel()
        for shadow in self._shadows.values():
            shadow.close()
        self._shadows.clear()

    def settle(self) -> None:
        """Begin and end shadows as the policies wish now."""
        for name in [name for name, shadow in self._shadows.items() if not self._is_wished(name, shadow)]:
            self._ended[name] = self._shadows.pop(name)
            self._ended[name].close()
        for name, model in self._models.items():
            if model.policy.shadow is None:
                self._forget(name)
            elif name not in self._shadows and self._waits_because(model, model.policy.shadow) is None:
                self._begin(model, model.policy.shadow)

    def standing(self, name: str) -> Standing | None:
        """Tell how the shadow of a model stands, all processes together; None where its policy wishes none."""
        model = self._models[name]
        wish = model.policy.shadow
        if wish is None:
            return None
        self.settle()
        key = self._keys.get(name)
        if key is None or key[2] != str(wish.version):  # of another shadow
            return Standing(wish, None, Comparison(), None, self._waits_because(model, wish))
        shadow = self._shadows.get(name)
        return Standing(
            wish,
            int(key[1]),
            self._metrics.total().comparisons[key],
            None if shadow is None else shadow.agreement.definition,
            self._waits_because(model, wish),
        )

    def expect_promotable(
        self, name: str, *, min_agreement: float | None = None, min_rows: int | None = None
    ) -> Standing:
        """Return how the shadow of a model stands, where it has earned to answer.

        Args:
            name: Of the model.
            min_agreement: In place of that of the policy.
            min_rows: Likewise.

        Raises:
            NotPromotable: There is none, or it has not earned it; the message says the figures.
        """
        standing = self.standing(name)
        if standing is None:
            raise NotPromotable(f"the policy of {name} names no shadow; set one, and let it see some traffic")
        if refusal := standing.refusal(min_agreement=min_agreement, min_rows=min_rows):
            raise NotPromotable(f"{name}: {refusal}")
        return standing

    def _begin(self, model: Model, wish: Wish) -> None:
        serving, version = model.default, model.numbered(wish.version)
        assert version is not None
        key = _key(serving, version, wish)
        self._forget(model.name, but=key)
        self._keys[model.name] = key
        self._shadows[model.name] = Shadow(
            serving, version, wish, self._metrics, key, is_calm=lambda: self._is_calm(version), clock=self._clock
        )
        logger.info("%s is a shadow of %s", version.label, serving.label)

    def _is_wished(self, name: str, shadow: Shadow) -> bool:
        model = self._models.get(name)
        return (
            model is not None
            and model.policy.shadow == shadow.wish
            and model.default is shadow.serving
            and model.numbered(shadow.wish.version) is shadow.version
            and shadow.is_in_place
        )

    def _waits_because(self, model: Model, wish: Wish) -> str | None:
        """Return why a model's shadow cannot begin, or has ended; None where nothing keeps it."""
        serving, version = model.default, model.numbered(wish.version)
        if version is None:
            return f"there is no version {wish.version}"
        for each in (version, serving):
            if each.state is not State.READY:
                return f"{each.label} is {each.state}" + (f": {each.reason}" if each.reason else "")
        if version is serving:
            return f"version {wish.version} is the one that answers"
        ended = self._ended.get(model.name)
        if model.name in self._shadows:
            return None
        if version.is_lent:
            return "the comparison before is about to end"
        # loaded anew, it would hang on the same rows again, and leave thread after thread behind
        if ended is not None and ended.is_under_way and ended.key == _key(serving, version, wish):
            return "a batch has not come back; take the shadow off and put it on again to go on"
        return None

    def _forget(self, name: str, *, but: Key | None = None) -> None:
        """Drop what was found of the shadows of a model."""
        self._keys.pop(name, None)
        self._ended.pop(name, None)
        for key in [key for key in self._metrics.comparisons if key[0] == name and key != but]:
            del self._metrics.comparisons[key]

    def _is_calm(self, shadow: Version) -> bool:
        """Tell whether no version but the shadow has anything to do."""
        return all(
            version is shadow or version.batcher is None or version.batcher.is_idle
            for model in self._models.values()
            for version in model.versions
        )

    def _max_differences(self) -> Iterable[tuple[tuple[str, str], float]]:
        for (model, _, version, _), comparison in self._metrics.comparisons.items():
            yield (model, version), comparison.max_difference


def _key(serving: Version, version: Version, wish: Wish) -> Key:
    """Return what tells this comparison from others: other bundles under the same numbers, another tolerance."""
    manifests = (each.manifest_read.model_dump_json() for each in (serving, version) if each.manifest_read is not None)
    tolerance = "" if wish.tolerance is None else wish.tolerance.model_dump_json()
    digest = hashlib.sha256("\n".join((*manifests, tolerance)).encode()).hexdigest()
    return serving.ref.name, str(serving.ref.version), str(version.ref.version), digest[:16]
