"""List architectures, what can be trained, and bundles."""

import argparse

from app.bundle.loader import BundleRef, find_bundles, open_bundle
from training import architectures, config
from training.commands._shared import add_folders, models_to_train, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folders(parser, "--models-dir")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    say("architectures:")
    for name in architectures.names():
        count = architectures.num_parameters(architectures.build(name, {}))
        say(f"  {name:<12} {count:>10,} parameters  {architectures.describe(name)}")
    say("models to train:")
    for name in models_to_train():
        settings = config.recipe(name)
        say(f"  {name:<18} {settings.architecture:<12} on {settings.data_set}")
    say(f"bundles in {args.models_dir}:")
    refs = find_bundles(args.models_dir) if args.models_dir.is_dir() else []
    for ref in refs:
        say(f"  {f'{ref.name}/{ref.version}':<18} {_summary(ref)}")
    if not refs:
        say("  none")


def _summary(ref: BundleRef) -> str:
    try:
        manifest = open_bundle(ref).manifest
    except Exception as exc:  # a damaged bundle hides no other
        return f"damaged: {exc}"
    told = [name for name in ("accuracy", "r2", "mse") if name in manifest.metrics][:1]
    reached = [f"test {name} {manifest.metrics[name]:.4f}" for name in told]
    variants = (
        f"{artifact.format} {artifact.size_bytes / 1e6:.2f} MB"
        + (f" accuracy {artifact.test_accuracy:.4f}" if artifact.test_accuracy is not None else "")
        for artifact in manifest.artifacts
    )
    return "; ".join((*reached, *variants))
