"""``python -m training``: see :mod:`training.cli`."""

import sys

try:
    from training.cli import main
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] in ("", "app", "training"):
        raise
    sys.stderr.write(f"error: {exc.name} is not installed; training needs: pip install 'zero-to-one[train]'\n")
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
