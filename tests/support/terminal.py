"""A terminal of a test's own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from tests.paths import ROOT


def run_on_terminal(code: str) -> str:
    """What Python `code` leaves on it, stdout and stderr together; the code ends well."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65_536):
            written += part
    except OSError:  # the other end is closed: EIO on Linux
        pass
    os.close(ours)
    assert process.wait() == 0, written.decode()
    return written.decode()
