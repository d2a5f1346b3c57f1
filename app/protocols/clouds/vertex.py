"""Google Vertex AI: the paths that ``AIP_HEALTH_ROUTE`` and ``AIP_PREDICT_ROUTE`` name, ``instances``, ``parameters``.

Vertex AI hands the body of a caller's ``predict`` on, ``{"instances": [...], "parameters": {...}}``, and reads the
``"predictions"`` of the answer. Source: "Custom container requirements for inference".
"""

from app.protocols.manners import IN_PARAMETERS, Manner

DOOR = "vertex"


class Vertex(Manner):
    """Vertex AI's."""

    door = DOOR
    is_platform = True
    naming = IN_PARAMETERS
