"""The .ts format of the time series archive: lines of a header, ``@data``, then one series a line.

A series is its channels, divided by colons, each of numbers divided by commas; behind the last colon stands the class.
Source: https://www.aeon-toolkit.org/en/stable/api_reference/file_specifications/ts.html
"""

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError


def parse_ts(content: bytes, *, name: str, num_channels: int) -> tuple[list[NDArray[np.float32]], list[str]]:
    """Parse a file of labeled series without time stamps.

    Args:
        content: The file.
        name: How errors call it.
        num_channels: That every series must have.

    Returns:
        The series, float32 of shape (T_i, num_channels), and their labels.

    Raises:
        DataError: It is no such file; the line is named.
    """
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as exc:
        raise DataError(f"{name} is no text: {exc}") from exc
    start = next((at for at, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if start is None:
        raise DataError(f"{name} is no .ts file: it has no line '@data'")
    series: list[NDArray[np.float32]] = []
    labels: list[str] = []
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if not line.strip():
            continue
        *channels, label = line.split(":")
        series.append(_series(channels, where=f"{name}, line {number}", num_channels=num_channels))
        labels.append(label.strip())
    return series, labels


def _series(channels: list[str], *, where: str, num_channels: int) -> NDArray[np.float32]:
    if len(channels) != num_channels:
        raise DataError(f"{where}: {len(channels)} channels, expected {num_channels}")
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is told below
            values_CT = np.array([channel.split(",") for channel in channels], np.float32)
    except ValueError as exc:
        raise DataError(f"{where}: channels of different lengths, or no numbers: {exc}") from exc
    if not np.isfinite(values_CT).all():
        raise DataError(f"{where}: a number is missing or not finite")
    return np.ascontiguousarray(values_CT.T)
