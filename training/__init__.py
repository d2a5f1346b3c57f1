"""The offline trainer: reads data, trains networks, and writes the bundles that the service serves."""

import os

# ONNX Runtime's official wheels report to their maker unless they are told not to before the import (its Privacy.md)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
