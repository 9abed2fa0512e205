"""Who works in a folder: what must not be moved or removed under a process that runs. Only the standard library, for
`make clean` asks as well."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path


def users_of(folder: Path) -> list[int]:
    """Processes, but this one, that work in the folder, have a file in it open, or are a program in it. Of another
    user's processes only their first word is to be seen, unless root asks."""
    inside = (str(folder.absolute()), str(folder.resolve()))
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid())
    return [pid for pid in pids if any(lies_in(path, inside) for path in paths_of(pid))]


def lies_in(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def paths_of(pid: int) -> list[str]:
    """The program as it was called, the file that it is, where it works, what it has open."""
    found, root = [], f"/proc/{pid}"
    with suppress(OSError):
        found.append(Path(root, "cmdline").read_bytes().partition(b"\0")[0].decode("utf8", "replace"))
    links = [f"{root}/exe", f"{root}/cwd"]
    with suppress(OSError):
        links += [f"{root}/fd/{name}" for name in os.listdir(f"{root}/fd")]
    for link in links:
        with suppress(OSError):
            found.append(os.readlink(link))
    return found


def answers(path: Path) -> bool:
    """Whether somebody listens on this socket. Its folder is named by a descriptor: a socket's path may be 107 bytes
    long (unix(7)), and a folder may lie deep."""
    try:
        folder = os.open(path.parent, os.O_PATH)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            return connection.connect_ex(f"/proc/self/fd/{folder}/{path.name}") == 0
    finally:
        os.close(folder)
