"""HAProxy's admin socket and its maps. A map is a file, which a restart reads, and a copy in the running process; both
are changed here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ExternalError
from infra.files.atomic import write_private
from infra.haproxy.counts import Counts, read_counts, read_facts

COMMANDS_AT_ONCE = 500  # some 40 KiB: a line must fit HAProxy's buffer, which holds a request's body


@dataclass(frozen=True)
class Admin:
    """The socket of the HAProxy whose files lie in `folder`; `hint` is the command that starts it."""

    folder: Path
    hint: str

    def ask(self, command: str, missing: str | None = None) -> str:
        """One command. Raises ExternalError, or returns `missing` where that is given, if nobody answers."""
        try:
            with socket.socket(socket.AF_UNIX) as connection, opened(self.folder) as folder:
                connection.settimeout(10)
                connection.connect(f"/proc/self/fd/{folder}/admin.sock")
                connection.sendall(command.encode() + b"\n")
                return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
        except OSError as error:
            if missing is not None:
                return missing
            raise ExternalError(
                f"HAProxy's admin socket {self.folder}/admin.sock does not answer: {error}", hint=self.hint
            ) from error

    def ask_all(self, commands: Iterable[str]) -> None:
        """Many at once, whose answers are empty or say nothing new. Raises ExternalError if nobody answers."""
        every = list(commands)
        for first in range(0, len(every), COMMANDS_AT_ONCE):
            self.ask(";".join(every[first : first + COMMANDS_AT_ONCE]))

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """One at a time writes a file and tells the process: else one that a reload starts might have read the file
        before, and never hear of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "changes.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def facts(self) -> dict[str, str]:
        """`show info`; empty where no process runs."""
        return read_facts(self.ask("show info", missing=""))

    def counts(self) -> tuple[int, Counts]:
        """The process that answers, and its counters."""
        info, _, stat = self.ask("show info;show stat").partition("# pxname")
        return int(read_facts(info)["Pid"]), read_counts("pxname" + stat)

    def is_running(self) -> bool:
        return bool(self.facts())

    def map_id(self, name: str) -> str:
        """Such as `#3`: an earlier tunegate's process knows its maps by longer paths. Raises ExternalError for none."""
        for line in self.ask("show map").splitlines():
            number, _, rest = line.partition(" (")
            if number.strip().isdigit() and rest.partition(")")[0].rpartition("/")[2] == name:
                return f"#{number.strip()}"
        raise ExternalError(f"the router in {self.folder} has no map {name}", hint=self.hint)

    def read_rows(self, name: str) -> list[tuple[str, str]]:
        """As the running process says (an entry's address, its key, its value). By hand a key may be there twice: then
        its first row counts."""
        rows = [line.split(maxsplit=2) for line in self.ask(f"show map {self.map_id(name)}").splitlines()]
        return [(row[1], row[2]) for row in rows if len(row) == 3]

    def read_map(self, name: str) -> dict[str, str]:
        return dict(reversed(self.read_rows(name)))

    def write_map(self, name: str, entries: dict[str, str]) -> None:
        """All entries at once: the file first, for a restart reads it; then, where one runs, the process, by a version
        that is committed whole.

        Raises ExternalError if the process does not hold the entries afterwards.
        """
        with self.changing():
            self.write_changed(name, entries)

    def set_entries(self, name: str, entries: dict[str, str]) -> None:
        """The others stay."""
        with self.changing():
            self.write_changed(name, read_map_file(self.folder / name) | entries)

    def write_changed(self, name: str, entries: dict[str, str]) -> None:
        path = self.folder / name
        lines = "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))
        write_private(path, lines)
        if not self.is_running():
            return
        map_id = self.map_id(name)
        version = self.ask(f"prepare map {map_id}").rpartition(":")[2].strip()
        if entries:
            self.ask(f"add map @{version} {map_id} <<\n{lines}")
        self.ask(f"commit map @{version} {map_id}")
        if self.read_map(name) != entries:
            raise ExternalError(f"HAProxy did not take {path}", hint=f"less {self.folder}/haproxy.log")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A socket's path may be 107 bytes long (unix(7)), and a folder may lie deep: so it is named by its descriptor."""
    descriptor = os.open(folder, os.O_PATH)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_map_file(path: Path) -> dict[str, str]:
    """Empty where there is no file yet."""
    lines = path.read_text(encoding="utf8").splitlines() if path.exists() else []
    return dict(line.split(maxsplit=1) for line in lines if " " in line)
