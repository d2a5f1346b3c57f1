"""What the card of a model tells of its shadow."""

from pydantic import BaseModel, Field

from app.serving.shadows import Standing


class ShadowRows(BaseModel):
    """What became of the rows that were drawn for the shadow; the sums over all workers."""

    agreed: int = Field(description="Both versions answer the same; `agrees_when` says what that is.")
    disagreed: int
    failed: int = Field(description="The shadow had no answer.")
    over_budget: int = Field(description="Not computed: the time that the shadow may take was used up.")
    dropped: int = Field(description="Not computed: too many others waited.")


class ShadowCard(BaseModel):
    """A version that gets a copy of the traffic, and how it compares with the one that answers."""

    version: str
    compared_with: str | None = Field(description="The version that answers; null before the first comparison.")
    waits_because: str | None = Field(description="Why nothing is compared in this worker; null where something is.")
    share: float = Field(description="Of the batches that are answered.")
    cpu_share: float = Field(description="Most of the time of one core, in each worker.")
    agrees_when: str | None = Field(description="When two answers are the same; null while nothing is compared.")
    rows: ShadowRows
    agreement: float | None = Field(description="Agreed rows over compared ones; null before the first.")
    max_difference: float = Field(description="The largest difference between two numbers of an output.")
    mean_difference: float | None = Field(description="The mean over the rows of the largest difference of each.")
    serving_row_ms: float | None = Field(description="Milliseconds of computation a row, of the version that answers.")
    shadow_row_ms: float | None = Field(description="The same of the shadow, for the same batches.")
    min_agreement: float = Field(description="What the policy asks for before the shadow is promoted.")
    min_rows: int = Field(description="The same of the rows compared.")
    not_promotable_because: str | None = Field(description="What is missing; null where `promote` would be heard.")


def shadow_card(standing: Standing | None) -> ShadowCard | None:
    """Return what the card tells; None where there is no shadow."""
    if standing is None:
        return None
    wish, found = standing.wish, standing.comparison
    serving_s, shadow_s = found.row_seconds or (None, None)
    return ShadowCard(
        version=str(wish.version),
        compared_with=None if standing.serving is None else str(standing.serving),
        waits_because=standing.waits_because,
        share=wish.share,
        cpu_share=wish.cpu_share,
        agrees_when=standing.definition,
        rows=ShadowRows(
            agreed=found.agreed,
            disagreed=found.disagreed,
            failed=found.failed,
            over_budget=found.over_budget,
            dropped=found.dropped,
        ),
        agreement=found.agreement,
        max_difference=found.max_difference,
        mean_difference=found.mean_difference,
        serving_row_ms=None if serving_s is None else serving_s * 1e3,
        shadow_row_ms=None if shadow_s is None else shadow_s * 1e3,
        min_agreement=wish.min_agreement,
        min_rows=wish.min_rows,
        not_promotable_because=standing.refusal(),
    )
