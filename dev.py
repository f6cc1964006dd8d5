"""Everything a newcomer needs: `python3 dev.py demo`, `python3 dev.py test`, `python3 dev.py lint`.

Each makes the virtual environment `.venv` itself, with the versions in constraints.txt, and then
does its job; a second call starts at once. Only the standard library is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
OLDEST = (3, 10)
TORCH = "torch==2.13.0"
# What decides whether an environment that is there is the right one.
SOURCES = ("pyproject.toml", "constraints.txt", "dev.py")


def main() -> int:
    """Set up what the job needs, then do it."""
    jobs = {"demo": demo, "test": test, "lint": lint}
    parser = argparse.ArgumentParser(
        prog="python3 dev.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("job", choices=jobs)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to the job")
    chosen = parser.parse_args()
    if sys.version_info < OLDEST:
        print(f"lorakit needs Python {OLDEST[0]}.{OLDEST[1]} or newer; this is {sys.version}.")
        return 2
    extra = "" if chosen.job == "demo" else "[dev]"
    try:
        set_up(extra)
    except subprocess.CalledProcessError as error:
        print(f"Setting up failed at: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    return jobs[chosen.job](chosen.arguments)


def demo(arguments: list[str]) -> int:
    """The demo, in two minutes on two cores."""
    return run([str(PYTHON), "-m", "lorakit", "demo", *arguments])


def test(arguments: list[str]) -> int:
    """The tests; arguments go to pytest."""
    workers = str(min(os.cpu_count() or 1, 8))
    return run([str(PYTHON), "-m", "pytest", "-n", workers, *arguments])


def lint(arguments: list[str]) -> int:
    """Format, lint and types; --fix mends what can be mended."""
    fix = "--fix" in arguments
    ruff = [str(BIN / "ruff")]
    checks = [
        [*ruff, "format", *([] if fix else ["--check"]), "."],
        [*ruff, "check", *(["--fix"] if fix else []), "."],
        [str(BIN / "pyright"), "--pythonpath", str(PYTHON)],
    ]
    return max(run(check) for check in checks)


def set_up(extra: str) -> None:
    """Make `.venv` hold the package with this extra, unless it does so already."""
    mark = VENV / f".ready{extra.strip('[]')}"
    wanted = hashlib.sha256(
        b"".join((ROOT / name).read_bytes() for name in SOURCES) + str(ROOT).encode()
    ).hexdigest()
    # The development environment holds all that the demo needs.
    for ready in (mark, VENV / ".readydev"):
        if PYTHON.exists() and ready.exists() and ready.read_text() == wanted:
            return
    uv = shutil.which("uv")
    print(f"setting up {VENV.name} with {'uv' if uv else 'pip'}, once: some minutes", flush=True)
    if not PYTHON.exists():
        shutil.rmtree(VENV, ignore_errors=True)
        make = [uv, "venv", "--quiet", "--python", sys.executable] if uv else None
        check(make + [str(VENV)] if make else [sys.executable, "-m", "venv", str(VENV)])
        if uv is None:
            check([str(PYTHON), "-m", "pip", "install", "--quiet", "--upgrade", "pip"])
    # Torch first: its version is exact, so that nothing later pulls in another build of it.
    for what in ([TORCH], ["-e", f".{extra}"]):
        check([*installer(uv), *what, "-c", "constraints.txt"])
    mark.write_text(wanted)


def installer(uv: str | None) -> list[str]:
    """The command that installs into `.venv`."""
    if uv is None:
        return [str(PYTHON), "-m", "pip", "install", "--quiet"]
    command = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    # uv does not look at pip's settings, which may name a folder of local wheels.
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, capture_output=True, text=True).stdout.splitlines()
    for line in listed:
        key, _, value = line.partition("=")
        if key.rpartition(".")[2] == "find-links":
            command += ["--find-links", value.strip("'")]
    return command


def check(command: list[str]) -> None:
    """Run a command of the set-up, and stop where it fails."""
    subprocess.run(command, cwd=ROOT, check=True)


def run(command: list[str]) -> int:
    """Run a job where the user stands, and return its exit code."""
    try:
        return subprocess.run(command, cwd=ROOT).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
