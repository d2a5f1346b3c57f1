"""Azure Machine Learning's online endpoints: ``POST /score``, the path of its own inference server.

Liveness and readiness are asked where the deployment's ``inference_config`` says: ``/livez`` and ``/readyz``. Source:
"Use a custom container to deploy a model to an online endpoint".
"""

from app.protocols.manners import IN_PARAMETERS, Manner

DOOR = "azureml"
SCORE = "/score"


class AzureML(Manner):
    """Azure Machine Learning's."""

    door = DOOR
    is_platform = True
    naming = IN_PARAMETERS
