"""`lorakit ui` says what is wrong before it serves."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest


def said(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lorakit", "ui", *arguments], capture_output=True, text=True
    )


@pytest.mark.parametrize(("arguments", "words"), [
    (("--root", "none"), "is no folder"),
    (("--auth", "ann"), "NAME:PASSWORD"),
    (("--host", "0.0.0.0"), "--auth"),
])  # fmt: skip
def test_what_cannot_be_served(tmp_path, arguments, words):
    found = said(str(tmp_path), *arguments)
    assert (found.returncode, found.stdout) == (2, "")
    assert words in found.stderr
    assert "Traceback" not in found.stderr


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = said(str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert found.returncode == 2
    assert "--port" in found.stderr
