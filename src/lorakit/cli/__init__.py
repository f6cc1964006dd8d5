"""The `lorakit` command: one file for each verb.

This module imports nothing that is slow: torch and transformers are loaded by the verbs that need
them, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys

import typer

from lorakit import __version__
from lorakit.core.errors import LorakitError, Stopped, TrainingError, did_you_mean

VERBS = (
    "bench",
    "combine",
    "convert",
    "demo",
    "diff",
    "doctor",
    "eval",
    "extract",
    "generate",
    "inspect",
    "library",
    "merge",
    "plan",
    "predict",
    "preview",
    "queue",
    "resize",
    "study",
    "train",
    "ui",
)

app = typer.Typer(
    name="lorakit",
    help="Train, inspect, merge and use LoRA adapters, each step exact or with its error stated.",
    epilog="Start with lorakit demo. Every verb has --help; --debug shows tracebacks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"lorakit {__version__}")
        raise typer.Exit


@app.callback()
def _lorakit(
    version: bool = typer.Option(
        False, "--version", help="Show the version.", callback=_show_version, is_eager=True
    ),
) -> None:
    del version


for _verb in VERBS:
    _module = importlib.import_module(f"lorakit.cli.{_verb}")
    if hasattr(_module, "verbs"):  # a verb with verbs of its own
        app.add_typer(_module.verbs, name=_verb)
    else:
        app.command(_verb, context_settings=getattr(_module, "CONTEXT", None))(_module.command)


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # What libraries have to say is said by us, or not of interest to a user of the command.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for library in ("torchao", "torch.utils._pytree", "bitsandbytes"):
        logging.getLogger(library).setLevel(logging.ERROR)
    # Threads that wait for each other sleep: spinning, two on a busy machine are slower than one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if arguments and not arguments[0].startswith("-") and arguments[0] not in VERBS:
        hint = did_you_mean(arguments[0], VERBS) or f" Known are {', '.join(VERBS)}."
        _fail(f"{arguments[0]!r} is no verb of lorakit.{hint}", 2)
    for stream in (sys.stdout, sys.stderr):  # of names that are no Unicode, their bytes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(arguments, prog_name="lorakit")
    except LorakitError as error:
        if debug:
            raise
        stopped = 130 if isinstance(error, Stopped) else 1  # 130: by Ctrl-C, as a shell says it
        _fail(str(error), stopped if isinstance(error, TrainingError) else 2)
    except (PermissionError, UnicodeDecodeError) as error:  # of what the user named
        if debug:
            raise
        _fail(f"{error}. Check what was named; --debug shows where it happened.", 2)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; there is no one left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
