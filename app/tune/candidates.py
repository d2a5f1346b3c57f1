"""What could serve a model on this machine, and what is left out before anything is measured."""

from dataclasses import dataclass

from app import backends, cpus
from app.bundle.loader import Bundle
from app.bundle.manifest import Artifact
from app.bundle.tuning import Choice
from app.settings import Settings

WAIT_MS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a choice may cost.

    Attributes:
        clients: Requests in flight while it is measured; more rows than these never meet in a batch.
        max_batch_ms: Longest full batch: a caller waits for the batch that runs and for its own.
        max_accuracy_drop: How much less of the test set another artifact may get right than the plain one.
    """

    clients: int = 64
    max_batch_ms: float = 50.0
    max_accuracy_drop: float = 0.0


def keys(bundle: Bundle, settings: Settings, bounds: Bounds) -> tuple[list[str], dict[str, str]]:
    """Return the artifacts that may be measured, the one that serves by itself first, and why the others may not.

    Another variant of the network answers otherwise: it is taken only where its accuracy was measured and is no worse
    than allowed. Where a task has no accuracy, nobody knows, and it stays with the plain one.
    """
    manifest = bundle.manifest
    wanted = settings.backend_of(manifest.name)
    served = [artifact for artifact in manifest.artifacts if artifact.format in backends.names()]
    plain = next((artifact for artifact in served if artifact.variant is None), None)
    taken: list[str] = []
    left_out: dict[str, str] = {}
    for artifact in manifest.artifacts:
        if reason := _against(artifact, plain, wanted, settings, bounds, is_served=artifact in served):
            left_out[artifact.key] = reason
        else:
            taken.append(artifact.key)
    return taken, left_out


def _against(
    artifact: Artifact, plain: Artifact | None, wanted: str, settings: Settings, bounds: Bounds, *, is_served: bool
) -> str | None:
    """Return why an artifact is not measured."""
    if not is_served:
        return f"no backend serves {artifact.format}"
    if wanted not in ("auto", artifact.key):
        return f"ZTO_BACKEND asks for {wanted}"
    if artifact.format == "torchscript" and not settings.allow_torchscript:
        return "ZTO_ALLOW_TORCHSCRIPT is not set"
    if artifact.variant is None or wanted == artifact.key:
        return None
    if plain is None or plain.test_accuracy is None or artifact.test_accuracy is None:
        return "nobody has measured what it costs in accuracy"
    drop = plain.test_accuracy - artifact.test_accuracy
    if drop > bounds.max_accuracy_drop + 1e-12:
        return f"it gets {drop:.2%} less of the test set right, allowed are {bounds.max_accuracy_drop:.2%}"
    return None


def with_batching(choice: Choice, **changes: float | None) -> Choice:
    """Return a choice with another batching."""
    return choice.model_copy(update={"batching": choice.batching.model_copy(update=changes)})


def other_threads(choice: Choice) -> list[Choice]:
    """Return it with other numbers of threads: the powers of two that the cores hold."""
    counts = [2**power for power in range(10) if 2**power <= cpus.num_cores()]
    return [choice.model_copy(update={"threads": count}) for count in counts if count != choice.threads]


def other_rows(choice: Choice, clients: int) -> list[Choice]:
    """Return it with other numbers of rows, 1 ("do not batch") among them."""
    counts = [2**power for power in range(12) if 2**power <= clients]
    return [with_batching(choice, max_rows=count) for count in counts if count != choice.batching.max_rows]


def other_elements(choice: Choice) -> list[Choice]:
    """Return it with other bounds on rows times padded length, where it has one."""
    bound = choice.batching.max_elements
    if bound is None:
        return []
    return [with_batching(choice, max_elements=max(1, int(bound * factor))) for factor in (0.25, 0.5, 2, 4)]


def other_waits(choice: Choice) -> list[Choice]:
    """Return it with the other answer to whether an idle runner waits for company."""
    return [with_batching(choice, max_wait_ms=0.0 if choice.batching.max_wait_ms else WAIT_MS)]


def brief(choice: Choice) -> str:
    """Return a choice in a few words."""
    batching = choice.batching
    words = [choice.backend, f"threads {choice.threads}", f"rows {batching.max_rows}"]
    if batching.max_elements is not None:
        words.append(f"elements {batching.max_elements}")
    if batching.max_wait_ms:
        words.append(f"wait {batching.max_wait_ms:g} ms")
    return ", ".join([*words, f"on {choice.run_on}"])
