"""The fast parser of JSON: one for each thread, whatever model or door a body is for.

A parser keeps about 15 times the memory of its largest body for good (the tape, the strings, the places of all marks,
a copy with padding). One for each model and door would have a service grow for as long as any of them still met a
body larger than all before.
"""

import threading

import simdjson

KEPT_BODY_BYTES = 64 * 1024

_KEPT = threading.local()


def parser_for(num_bytes: int) -> simdjson.Parser:
    """Return a parser for a body of this size: this thread's own, or for a large one a new one, to be let go.

    Nothing of a document may be held when the next one is parsed.
    """
    if num_bytes > KEPT_BODY_BYTES:
        return simdjson.Parser()
    try:
        kept: simdjson.Parser = _KEPT.parser
    except AttributeError:
        kept = _KEPT.parser = simdjson.Parser()
    return kept
