"""The table of ``docs/reliability.md``, between its markers, of what was drilled last."""

from collections.abc import Mapping

from benchmarks import markdown
from benchmarks.calm import CALM_CORES
from tests.drills.records import Record

# of the table
ORDER = ("swap", "broken", "sigterm", "rolling", "killed", "sick", "hostile", "soak", "overhead")
BEGIN, END = "<!-- drills: begin, written by `make drills` -->", "<!-- drills: end -->"


def render(records: Mapping[str, Record]) -> str:
    """Return what stands between the markers."""
    ordered = [records[name] for name in ORDER if name in records]
    if not ordered:
        return "Nothing was drilled yet."
    missing = [f"`{name}`" for name in ORDER if name not in records]
    parts = [
        markdown.table(("drill", "bar", "as last drilled", ""), [_row(record) for record in ordered]),
        f"Not drilled yet: {markdown.listed(missing)}." if missing else "",
        _circumstances(ordered),
    ]
    return markdown.wrapped("\n\n".join(part for part in parts if part)).strip()


def filled(text: str, records: Mapping[str, Record]) -> str:
    """Return the text of the page with its table.

    Raises:
        ValueError: The page has no markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{render(records)}\n\n{END}{after}"


def _row(record: Record) -> tuple[str, str, str, str]:
    verdict = f"**missed**: {'; '.join(record.misses)}" if record.misses else "met"
    return f"`{record.drill}`: {record.title}", record.bar, record.line, verdict


def _circumstances(records: list[Record]) -> str:
    """Return what they were drilled on; where on several machines or days, all of them."""
    by_machine: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        by_machine.setdefault(tuple(record.machine.items()), []).append(record)
    told = []
    for described, those in by_machine.items():
        dates = markdown.listed(sorted({record.date for record in those}))
        names = "everything" if len(by_machine) == 1 else markdown.listed([f"`{record.drill}`" for record in those])
        told += [f"- drilled on {dates}: {names}", *(f"- {label}: {value}" for label, value in described)]
    loud = [record for record in records if record.other_cores > CALM_CORES]
    if loud:
        most = max(record.other_cores for record in loud)
        told.append(
            f"- other work on the machine took up to {most:.1f} cores during "
            f"{markdown.listed([f'`{record.drill}`' for record in loud])}: times would be better without it"
        )
    return "\n".join(told)
