"""Runs ``python -m app predict``, and writes files for it."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.support.committed import MODELS

COMMAND = [sys.executable, "-W", "error", "-m", "app", "predict"]
POISON = 77.0


def environ(models: Path = MODELS, **settings: object) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    return inherited | {"ZTO_MODELS_DIR": str(models)} | {f"ZTO_{k.upper()}": str(v) for k, v in settings.items()}


def predict(*arguments: object, models: Path = MODELS, **settings: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environ(models, **settings),
        capture_output=True,
        text=True,
        timeout=120,
    )


def png(pixels_HW: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.asarray(pixels_HW, np.uint8)).save(data, "PNG")
    return data.getvalue()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def images(count: int) -> "np.ndarray[Any, Any]":
    found = np.random.default_rng(0).integers(0, 256, (count, 2, 3)).astype(np.uint8)
    found[found == POISON] = 0
    return found


def write_input(path: Path, images_BHW: "np.ndarray[Any, Any]") -> None:
    """Write pictures in the format of the suffix, with the column ``name`` where there are columns."""
    names = [f"n{index}" for index in range(len(images_BHW))]
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            rows = ([name, json.dumps(image.tolist())] for name, image in zip(names, images_BHW, strict=True))
            csv.writer(file).writerows([["name", "image"], *rows])
    elif path.suffix == ".jsonl":
        rows = (
            {"name": name, "image": image.tolist()} for name, image in zip(names, images_BHW, strict=True)
        )  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        flat = pa.array(images_BHW.reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, 6)
        pq.write_table(pa.table({"name": names, "image": lists}), path, row_group_size=700)
    else:
        path.mkdir()
        for name, image in zip(names, images_BHW, strict=True):
            (path / f"{name}.png").write_bytes(png(image))
