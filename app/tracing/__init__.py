"""Where a request stands in its caller's trace, and what is told of it over OpenTelemetry.

``context`` is plain Python, and all that the rest of the service knows of traces. The other modules want the extra
``otel``; ``setup`` imports them where tracing is on.
"""
