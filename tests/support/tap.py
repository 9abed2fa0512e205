"""A connection that can be cut in the middle."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.serve.conftest import free_ports


@dataclass
class Tap:
    """A pipe before a server that counts what goes in. `act` runs once, in the middle of the stream, when `after_bytes`
    have passed."""

    target: int
    port: int = field(default_factory=lambda: free_ports(1)[0])
    after_bytes: float = float("inf")
    act: Callable[[], None] = lambda: None
    passed: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self.listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target), timeout=10)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                threading.Thread(target=self.pump, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self.pump, args=(far, near, False), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while part := source.recv(16_384):
                sink.sendall(part)
                if counted:
                    self.count(len(part))
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def count(self, size: int) -> None:
        with self.lock:
            self.passed += size
            if self.passed >= self.after_bytes:
                self.after_bytes = float("inf")
                self.act()

    def close(self) -> None:
        self.listener.close()
