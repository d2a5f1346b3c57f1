"""Libraries of a newer Debian release, in a folder of their own, for a program that this system's are too old for.

The archive is the one that apt is configured for, and apt checks what it fetches by the archive's signatures; nothing
is installed, and nothing of apt's own state is touched.
"""

import platform
import shutil
import subprocess
from pathlib import Path

from benchmarks.environments import NotInstalled, last_words

RELEASE = "trixie"
# what the C++ programs of wheels link against, and what these need themselves
PACKAGES = ("libc6", "libgcc-s1", "libssl3t64", "libstdc++6", "libzstd1", "zlib1g")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TIMEOUT_S = 300.0


def launcher(folder: Path) -> tuple[str, ...]:
    """Return what to put before a program's path so that it is run with the libraries of a folder.

    Raises:
        NotInstalled: The folder has none.
    """
    machine = platform.machine()
    loaders = sorted(folder.glob("usr/lib*/ld-linux-*.so.*"))
    if not loaders:
        raise NotInstalled(f"the packages of Debian {RELEASE} hold no loader for {machine}")
    return (str(loaders[0]), "--library-path", str(folder / "usr" / "lib" / f"{machine}-linux-gnu"))


def fetch(folder: Path) -> None:
    """Fetch the packages and unpack them into a folder.

    Raises:
        NotInstalled: This system has no apt of Debian, or apt says no.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb") and KEYRING.exists()):
        raise NotInstalled(f"its libraries come from Debian {RELEASE}, and this system has no apt of Debian")
    shutil.rmtree(folder, ignore_errors=True)
    private = folder / "apt"
    for name in ("state/lists/partial", "cache/archives/partial", "packages"):
        (private / name).mkdir(parents=True)
    (private / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_archive()} {RELEASE} main\n")
    options = [
        f"--option=Dir::State={private / 'state'}",
        "--option=Dir::State::status=/dev/null",  # of this release, not of what is installed
        f"--option=Dir::Cache={private / 'cache'}",
        f"--option=Dir::Etc::sourcelist={private / 'sources.list'}",
        "--option=Dir::Etc::sourceparts=/dev/null",
        "--option=Acquire::Languages=none",
        "--option=APT::Sandbox::User=",  # who may not read a folder of ours
    ]
    _run(["apt-get", "--quiet", *options, "update"], private)
    _run(["apt-get", "--quiet", *options, "download", *PACKAGES], private / "packages")
    for package in sorted((private / "packages").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(folder)], folder)
    shutil.rmtree(private)


def _archive() -> str:
    """Return the address of Debian's own archive, as apt is configured."""
    listed = _run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages"])
    for line in listed.splitlines():
        origin, label, address = line.rsplit(" ", 2)
        if (origin, label) == ("Debian", "Debian"):
            return address
    raise NotInstalled("apt is not configured for Debian's archive, or was never updated")


def _run(command: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, timeout=_TIMEOUT_S)
    except subprocess.CalledProcessError as exc:
        raise NotInstalled(last_words(exc.stderr, command[0])) from exc
    except subprocess.TimeoutExpired as exc:
        raise NotInstalled(f"{command[0]} was not done after {_TIMEOUT_S:.0f} s") from exc
    return done.stdout
