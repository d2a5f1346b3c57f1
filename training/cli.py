"""The command line of the trainer: ``python -m training data | train | list | fixture``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from app.bundle.loader import BundleRef, find_bundles, open_bundle
from training import architectures, config, data, pipeline, tabular, tabular_export
from training.commands import data as data_command
from training.config import DEFAULT_SEED, NumpyConfig, TrainConfig
from training.errors import Interrupted, TrainingError
from training.export.bundle import expect_free
from training.fixture import NUM_ROWS, write_fixture
from training.loop import Epoch

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for a mistake of the caller, 130 when interrupted."""
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], None] = args.run
    try:
        command(args)
    except Interrupted as exc:
        _complain(str(exc))
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except (TrainingError, OSError) as exc:
        _complain(str(exc))
        return EXIT_USER_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train networks and write bundles.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a network, prove its exports and write a bundle")
    train.add_argument("model", choices=_models(), help="what to train")
    train.add_argument("--seed", type=_natural, default=DEFAULT_SEED, help="decides every draw (default: %(default)s)")
    train.add_argument("--epochs", type=_positive, help="at most (default: the recipe's)")
    train.add_argument("--batch-size", type=_positive, help="rows of a step (default: the recipe's)")
    train.add_argument("--learning-rate", type=float, help="peak of the schedule (default: the recipe's)")
    train.add_argument("--patience", type=_positive, help="epochs without a gain until it stops early")
    train.add_argument("--version", type=_positive, help="of the bundle; never one that exists (default: the next)")
    train.add_argument("--loader", action="store_true", help="take the same batches from a torch DataLoader, slower")
    train.add_argument(
        "--threads", type=_positive, default=1, help="of torch; other numbers round otherwise (default: %(default)s)"
    )
    _add_folders(train, "--data-dir", "--models-dir")
    train.set_defaults(run=_train)

    data_command.add_command(commands)

    listing = commands.add_parser("list", help="list architectures, what can be trained, and bundles")
    _add_folders(listing, "--models-dir")
    listing.set_defaults(run=_list)

    fixture = commands.add_parser("fixture", help=f"write the first {NUM_ROWS} test pictures for the tests")
    fixture.add_argument("--output", type=Path, default=Path("tests/fixtures/fashion_mnist_test_512.npz"))
    _add_folders(fixture, "--data-dir")
    fixture.set_defaults(run=_fixture)
    return parser


def _models() -> list[str]:
    """Return the names of all that can be trained: each recipe, and each architecture that has none."""
    return sorted({*architectures.names(), *config.recipe_names()})


def _add_folders(parser: argparse.ArgumentParser, *options: str) -> None:
    if "--data-dir" in options:
        parser.add_argument(
            "--data-dir", type=Path, help="of the data set (default: $DATA_DIR, or where Debian puts it)"
        )
    if "--models-dir" in options:
        parser.add_argument("--models-dir", type=Path, default=Path("models"), help="of bundles (default: %(default)s)")


def _train(args: argparse.Namespace) -> None:
    settings = _config(args)
    if args.version is not None:
        expect_free(args.models_dir, settings.name, args.version)  # now, rather than after an hour of training
    torch.set_num_threads(args.threads)
    rows = data.load(settings.data_set, args.data_dir)
    if isinstance(settings, NumpyConfig):
        assert isinstance(rows, data.Table), f"{settings.data_set} is no table"
        folder = _train_table(args, settings, rows)
    else:
        folder = _train_pictures(args, settings, rows)
    _say(f"wrote {folder}")


def _train_pictures(args: argparse.Namespace, settings: TrainConfig, rows: data.Pictures) -> Path:
    trained = pipeline.train(settings, rows, loader=args.loader, show_progress=True, on_epoch=_tell_epoch)
    best = trained.fit.best
    _say(
        f"{trained.fit.stopped} after {len(trained.fit.history)} epochs and {trained.duration_s:.0f} s; kept epoch "
        f"{best.number} with validation accuracy {best.validation_accuracy:.4f}"
    )
    return pipeline.export(trained, settings, rows, args.models_dir, version=args.version, say=_say)


def _train_table(args: argparse.Namespace, settings: NumpyConfig, rows: data.Table) -> Path:
    if args.loader:
        raise TrainingError("--loader is for torch networks, a NumPy network draws its own batches")
    trained = tabular.train(settings, rows)  # in a second or two, so that no epoch needs to be told
    best = trained.fit.best
    _say(
        f"{trained.fit.stopped} after {len(trained.fit.history)} epochs and {trained.duration_s:.1f} s; kept epoch "
        f"{best.number} with validation loss {best.validation_loss:.4f}"
    )
    return tabular_export.export(trained, settings, rows, args.models_dir, version=args.version, say=_say)


def _config(args: argparse.Namespace) -> config.Config:
    given = {name: getattr(args, name) for name in ("seed", "epochs", "batch_size", "learning_rate", "patience")}
    try:
        return config.recipe(args.model, **{name: value for name, value in given.items() if value is not None})
    except ValueError as exc:
        raise TrainingError(str(exc)) from exc


def _list(args: argparse.Namespace) -> None:
    _say("architectures:")
    for name in architectures.names():
        count = architectures.num_parameters(architectures.build(name, {}))
        _say(f"  {name:<12} {count:>10,} parameters  {architectures.describe(name)}")
    _say("models to train:")
    for name in _models():
        settings = config.recipe(name)
        _say(f"  {name:<18} {settings.architecture:<12} on {settings.data_set}")
    _say(f"bundles in {args.models_dir}:")
    refs = find_bundles(args.models_dir) if args.models_dir.is_dir() else []
    for ref in refs:
        _say(f"  {f'{ref.name}/{ref.version}':<18} {_summary(ref)}")
    if not refs:
        _say("  none")


def _summary(ref: BundleRef) -> str:
    try:
        manifest = open_bundle(ref).manifest
    except Exception as exc:  # a damaged bundle hides no other
        return f"damaged: {exc}"
    reached = [f"test {name} {manifest.metrics[name]:.4f}" for name in ("accuracy", "r2") if name in manifest.metrics]
    variants = (
        f"{artifact.format} {artifact.size_bytes / 1e6:.2f} MB"
        + (f" accuracy {artifact.test_accuracy:.4f}" if artifact.test_accuracy is not None else "")
        for artifact in manifest.artifacts
    )
    return "; ".join((*reached, *variants))


def _fixture(args: argparse.Namespace) -> None:
    write_fixture(data.load("fashion_mnist", args.data_dir), args.output)
    _say(f"wrote {args.output}")


def _tell_epoch(epoch: Epoch) -> None:
    tqdm.write(
        f"epoch {epoch.number:>3}  train loss {epoch.train_loss:.4f}  validation loss {epoch.validation_loss:.4f}  "
        f"accuracy {epoch.validation_accuracy:.4f}  {epoch.duration_s:.1f} s",
        file=sys.stderr,
    )


def _positive(text: str) -> int:
    return _whole(text, least=1)


def _natural(text: str) -> int:
    return _whole(text, least=0)


def _whole(text: str, *, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
    return int(text)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"error: {text}\n")
