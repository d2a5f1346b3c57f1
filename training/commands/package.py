"""Make a bundle of a model of your own: ONNX, TorchScript, .pt2, weights, or a Hugging Face folder."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from training.commands._shared import add_folders, natural, positive, say
from training.commands.sign import add_key, password_of
from training.package.bundle import package
from training.package.config import TASKS, Config, read_config
from training.signing import signer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options; the others of a config are said in the TOML file."""
    parser.add_argument("path", type=Path, help="of the file or folder", metavar="PATH")
    parser.add_argument("--config", type=Path, help="a TOML file of the same names, with _ for -; options win over it")
    parser.add_argument("--name", help="of the bundle (default: that of the file)")
    parser.add_argument("--version", type=positive, help="of the bundle; never one that exists (default: the next)")
    parser.add_argument("--task", choices=TASKS, help="what the model is for")
    parser.add_argument("--description", help="for people")
    parser.add_argument("--license", help="of the model, an SPDX expression")
    parser.add_argument("--labels", type=_names, help="in the order of the outputs, with commas between")
    parser.add_argument("--features", type=_names, help="names of the columns, in their order, with commas between")
    parser.add_argument("--target", type=_target, help="what a regression tells")
    parser.add_argument("--low", type=float, help="least number that goes in")
    parser.add_argument("--high", type=float, help="greatest number that goes in")
    parser.add_argument("--height", type=positive, help="of pictures, where the file leaves it open")
    parser.add_argument("--width", type=positive, help="of pictures, where the file leaves it open")
    parser.add_argument("--scale", type=float, help="what goes in is multiplied by it, inside the graph")
    parser.add_argument("--mean", type=float, help="then subtracted")
    parser.add_argument("--std", type=float, help="then divided by")
    parser.add_argument("--scores", choices=("logits", "probabilities"), help="what the model answers with")
    parser.add_argument("--scores-output", help="which output that is, where there are several")
    parser.add_argument("--max-length", type=positive, help="most steps of a series")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json")
    parser.add_argument("--max-chars", type=positive, help="characters of a text that are read")
    parser.add_argument("--max-tokens", type=positive, help="tokens of a text that are kept")
    parser.add_argument("--architecture", help="a registered one, for weights: see the command list")
    parser.add_argument("--network", type=_object, help="its config, as JSON")
    parser.add_argument("--golden", type=Path, help="rows to prove the bundle by, .npz or .jsonl (default: drawn)")
    parser.add_argument("--test", type=Path, help="rows with labels or targets, to measure on")
    parser.add_argument("--max-rows", type=positive, help="of a batch (default: 32)")
    parser.add_argument("--seed", type=natural, help="of what is drawn (default: 0)")
    parser.add_argument(
        "--allow-torchscript",
        action="store_const",
        const=True,
        help="run a TorchScript file: it is a program, and as trusted as your own code",
    )
    add_key(parser, "--sign-key", required=False)
    add_folders(parser, "--models-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    torch.set_num_threads(1)  # as the service does
    options = {name: getattr(args, name) for name in Config.model_fields if hasattr(args, name)}
    config = read_config(args.config, options)
    # read first: a key that cannot sign is told before a minute of work
    seal = None if args.sign_key is None else signer(args.sign_key, password_of(args))
    folder = package(args.path, config, args.models_dir, say=say, seal=seal)
    say(f"wrote {folder}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _target(text: str) -> dict[str, str]:
    return {"name": text}


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"must be JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value
