"""The router's certificate: one PEM file as HAProxy wants it, changed in the running process."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.errors import InputError
from infra.files.atomic import write_private
from infra.haproxy.runtime_api import Admin


def tls_files(config: DeployConfig) -> dict[str, str]:
    """The files that HAProxy reads, by name. Raises InputError where one of the operator's is missing."""
    tls = config.router.tls
    if tls is None:
        return {}
    files = {"router.pem": read_pem(tls.certificate) + read_pem(tls.key)}
    return files | ({"client_ca.pem": read_pem(tls.client_ca)} if tls.client_ca else {})


def read_pem(path: str) -> str:
    """Without empty lines, which end a payload on the admin socket."""
    try:
        lines = [line for line in Path(path).read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: found no readable PEM file: {error}", hint=f"openssl x509 -in {path} -noout -dates"
        ) from error
    return "".join(f"{line}\n" for line in lines)


def differs(path: Path, pem: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf8") != pem


def renew(admin: Admin, name: str, pem: str) -> bool:
    """The running process first, for it checks that key and certificate fit; then the file. False where nothing
    changed."""
    path = admin.folder / name
    if not differs(path, pem):
        return False
    kind = "ca-file" if name == "client_ca.pem" else "cert"
    said = admin.ask(f"set ssl {kind} {name} <<\n{pem}")
    done = admin.ask(f"commit ssl {kind} {name}") if "ransaction" in said else said
    if "Success" not in done:
        admin.ask(f"abort ssl {kind} {name}")
        raise InputError(
            f"HAProxy does not take the new {name}: {' '.join(done.split())}",
            hint="openssl x509 -noout -modulus, openssl rsa -noout -modulus",
        )
    write_private(path, pem)
    return True


def certificate_end(folder: Path) -> datetime | None:
    """When the first of the certificates that the router shows ends, its chain's among them; None where it has none
    that can be read. `folder`: the router's."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        found = load_pem_x509_certificates((folder / "router.pem").read_bytes())
    except (OSError, ValueError):
        return None
    return min(one.not_valid_after_utc for one in found)
