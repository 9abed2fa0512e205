"""A model server of a few lines, as a process at an address of its own, as a pod has one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from infra.kubernetes.probe import PORT

# GET says who it is; POST streams `parts` dots, one every tenth of a second.
SERVER = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", str(len(sys.argv[3])))
        self.end_headers()
        self.wfile.write(sys.argv[3].encode())
    def do_POST(self):
        parts = json.loads(self.rfile.read(int(self.headers["content-length"])))["parts"]
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(parts):
            self.wfile.write(b"1\\r\\n.\\r\\n")
            time.sleep(0.1)
        self.wfile.write(b"0\\r\\n\\r\\n")
    def log_message(self, *args):
        pass
class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    def handle_error(self, *args):
        pass
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


@contextmanager
def model_server(address: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SERVER, address, str(PORT), name])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
