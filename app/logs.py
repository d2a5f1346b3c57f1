"""How the log reads."""

import logging
import sys


def configure(level: str, *, several_processes: bool = False) -> None:
    """Write every record of at least a level to stderr; where several processes write, each tells its id."""
    process = " [%(process)d]" if several_processes else ""
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s %(levelname)-7s{process} %(name)s: %(message)s",
        stream=sys.stderr,
    )
