"""A typed client of Zero to One, the model server.

::

    with Client("http://localhost:8000") as client:
        (boot,) = client.predict("cnn", [Path("boot.png")])
        print(boot.label, boot.probability)

:class:`Client` waits, :class:`AsyncClient` is awaited; both split what one request cannot hold, try again what may
yet be answered, and keep to one deadline a call. The errors are drawn in :mod:`zero_to_one_client.errors`.
"""

from zero_to_one_client.async_client import AsyncClient
from zero_to_one_client.calls import Options
from zero_to_one_client.cards import ModelCard, ModelSummary, Readiness
from zero_to_one_client.client import Client
from zero_to_one_client.errors import (
    BadRequest,
    BrokenProtocol,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    Fault,
    InvalidInput,
    InvalidRequest,
    Limit,
    MissingExtra,
    NotFound,
    Problem,
    RateLimited,
    ServiceError,
    ServiceFailed,
    TooLarge,
    TransportError,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    WrongTask,
)
from zero_to_one_client.inferring import Tensors
from zero_to_one_client.predicting import Answer
from zero_to_one_client.receipts import Receipt, Timing
from zero_to_one_client.retries import RetryPolicy
from zero_to_one_client.tasks import (
    Classification,
    ImageClassification,
    ImageReconstruction,
    Prediction,
    Reconstruction,
    Regression,
    Request,
    SequenceClassification,
    TabularClassification,
    TabularRegression,
    TensorOutputs,
    TensorRows,
    TextClassification,
)
from zero_to_one_client.versions import __version__

__all__ = [
    "Answer",
    "AsyncClient",
    "BadRequest",
    "BrokenProtocol",
    "Classification",
    "Client",
    "ClientError",
    "ConnectFailed",
    "ConnectionLost",
    "DeadlineExceeded",
    "Fault",
    "ImageClassification",
    "ImageReconstruction",
    "InvalidInput",
    "InvalidRequest",
    "Limit",
    "MissingExtra",
    "ModelCard",
    "ModelSummary",
    "NotFound",
    "Options",
    "Prediction",
    "Problem",
    "RateLimited",
    "Readiness",
    "Receipt",
    "Reconstruction",
    "Regression",
    "Request",
    "RetryPolicy",
    "SequenceClassification",
    "ServiceError",
    "ServiceFailed",
    "TabularClassification",
    "TabularRegression",
    "TensorOutputs",
    "TensorRows",
    "Tensors",
    "TextClassification",
    "Timing",
    "TooLarge",
    "TransportError",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "WrongTask",
    "__version__",
]
