"""With how many processes and threads it is served, how they are looked after, and how they leave."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from app import cpus
from app.options.group import Group

MAX_WORKERS, MAX_THREADS = 256, 1024


class RunningSettings(Group):
    """What serves, and how it is looked after."""

    workers: int = Field(
        default=1,
        ge=1,
        le=MAX_WORKERS,
        description="Processes that serve, each with its own copy of the models; also WORKERS. auto takes one for each "
        "core that the container has.",
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=MAX_THREADS,
        description="Threads of the runtime inside one call; auto shares the cores of the container among the workers. "
        "More than that share are cut down to it.",
    )
    run_on: Literal["auto", "loop", "thread"] = Field(
        default="auto",
        description="Where a batch runs: on the event loop (no hop; for models of a few milliseconds), on a thread, or "
        "decided by the time that a full batch takes in the warm-up.",
    )
    length_buckets: bool = Field(
        default=True,
        description="Texts and series whose lengths are far apart run in batches of their own; 0 pads whatever comes "
        "next to the longest of it.",
    )
    watchdog: bool = Field(
        default=True,
        description="Watch one worker too: a parent replaces it where it ends or hangs. 0 serves in a single process; "
        "of several workers, those that hang are then left alone.",
    )
    hung_s: float = Field(
        default=4.0,
        ge=1,
        le=3600,
        description="Seconds after which a batch on a thread, or a worker whose event loop does not turn, is given up; "
        "longer where ten of the model's full batches take longer.",
    )
    canary_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="Seconds between two golden rows that each version is asked, through its queue; 0 asks none.",
    )
    max_worker_bytes: int | None = Field(
        default=None,
        ge=2**20,
        description="Resident memory from which on a worker is replaced; it first finishes what it has taken. Unset: "
        "no bound.",
    )
    drain_s: float = Field(
        default=0.5, ge=0, description="Seconds between SIGTERM (unready, Connection: close) and closing the port."
    )
    shutdown_s: int = Field(
        default=30, ge=1, le=86_400, description="Most seconds that requests in flight are waited for."
    )

    @field_validator("workers", mode="before")
    @classmethod
    def _one_for_each_core(cls, value: object) -> object:
        return min(MAX_WORKERS, cpus.num_cores()) if value == "auto" else value

    @field_validator("threads", mode="before")
    @classmethod
    def _share_of_the_cores(cls, value: object, info: ValidationInfo) -> object:
        # workers is not there where its own value is impossible, which is told beside
        if value != "auto":
            return value
        return min(MAX_THREADS, max(1, cpus.num_cores() // info.data.get("workers", 1)))
