"""The process between HAProxy and its access log: appends whole lines, begins a new file at a size, and outlives a full
disk.

python -I -S access_log.py FILE BYTES FILES < lines

HAProxy itself would take O_APPEND off its stdout, and stop for good at the first write that fails. Lines of requests
that were lost are also kept apart, in lost.jsonl, with the seconds since the boot, which no step of the clock moves:
receipts name them (infra/haproxy/lost.py). Standard library only, for it is started by its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import sys
import time

MOST_WAITING = 1 << 20  # bytes that wait for room on the disk; lines beyond are dropped and counted
RETRY_SECONDS = 1.0
LOST, LOST_BYTES = "lost.jsonl", 1 << 20  # a file of that, and one before it: some thousand lines
ENDED_WELL = b'"termination":"--"'


class AccessLog:
    """`files` older ones are kept as FILE.1, the newest, to FILE.N."""

    def __init__(self, path: str, most_bytes: int, files: int) -> None:
        self.path, self.most_bytes, self.files = path, most_bytes, files
        self.waiting, self.dropped = b"", 0

    def take(self, lines: bytes) -> None:
        """Whole lines. Those that the disk does not take now wait for the next call."""
        if len(self.waiting) + len(lines) > MOST_WAITING:
            self.dropped += lines.count(b"\n")
        else:
            self.waiting += lines
        with contextlib.suppress(OSError):
            self.write()

    def write(self) -> None:
        """Raises OSError where the disk takes nothing more; what it took of a line is taken back."""
        if self.dropped:
            self.append(b'{"dropped_lines":%d}\n' % self.dropped)
            self.dropped = 0
        if self.waiting:
            self.append(self.waiting)
            self.waiting = b""

    def append(self, text: bytes) -> None:
        self.rotate()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, text) != len(text):
                os.ftruncate(descriptor, before)
                raise OSError("the disk is full")
        finally:
            os.close(descriptor)

    def rotate(self) -> None:
        """Under a lock: around a reload two of these write."""
        if not self.is_large():
            return
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if self.is_large():
                for number in range(self.files - 1, 0, -1):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
                os.replace(self.path, f"{self.path}.1")
        finally:
            os.close(folder)

    def is_large(self) -> bool:
        try:
            return os.stat(self.path).st_size >= self.most_bytes
        except FileNotFoundError:
            return False


def is_lost(line: bytes) -> bool:
    """Whether the client got no whole answer though it stayed: its server broke off or never came (`S`, `s`), the
    router's process was ended (`K`, `D`, `U`) or failed (`R`, `I`), or the router itself answered with a 5xx."""
    if ENDED_WELL in line:
        return False
    try:
        found = json.loads(line)
        return found["termination"][0] in "SsKDURI" or (found["termination"][0] in "LP" and found["status"] >= 500)
    except (ValueError, LookupError, TypeError):
        return False


def stamped(line: bytes, boot: bytes) -> bytes:
    return b'{"boot":"%s","uptime":%.3f,%s\n' % (boot, time.clock_gettime(time.CLOCK_BOOTTIME), line[1:])


def read_boot() -> bytes:
    """As infra.boot.boot_id has it."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as stream:
        return stream.read().replace(b"-", b"")[:12]


def main(path: str, most_bytes: str, files: str) -> None:
    log, rest, ended = AccessLog(path, int(most_bytes), int(files)), b"", False
    lost, boot = AccessLog(os.path.join(os.path.dirname(path), LOST), LOST_BYTES, 1), read_boot()
    while not ended:
        ready, _, _ = select.select([0], [], [], RETRY_SECONDS)
        data = os.read(0, 1 << 16) if ready else b""
        ended = bool(ready) and not data
        text, _, rest = (rest + data).rpartition(b"\n")
        lines = [line for line in text.split(b"\n") if line.startswith(b"{")]  # not what HAProxy says of itself
        log.take(b"".join(line + b"\n" for line in lines))
        lost.take(b"".join(stamped(line, boot) for line in lines if is_lost(line)))


if __name__ == "__main__":
    main(*sys.argv[1:])
