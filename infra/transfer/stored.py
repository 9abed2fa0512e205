"""A release in a folder, as a cluster's volume is, or in S3, by fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ExternalError, InputError, TunegateError, cause_of
from infra.signing import SIGNATURE
from infra.transfer.layout import BLOCK, MANIFEST_PATH, folder_name

S3_TIMES = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}


@dataclass
class StoredRelease:
    url: str
    files: Any  # fsspec's file system: it has no types
    root: str

    @classmethod
    def open(cls, url: str, digest: str) -> StoredRelease:
        import fsspec

        if "://" in url and not url.startswith("s3://"):
            raise InputError(f"found {url}, expected oci://…, s3://… or a folder", hint="tunegate fetch --help")
        options: dict[str, Any] = {"use_listings_cache": False, "config_kwargs": S3_TIMES} if "://" in url else {}
        with answered(url):
            files, path = fsspec.url_to_fs(url if "://" in url else str(Path(url).absolute()), **options)
        return cls(url, files, f"{path.rstrip('/')}/{folder_name(digest)}")

    def blocks(self, path: str) -> Iterator[bytes]:
        with answered(self.url, path), self.files.open(f"{self.root}/{path}", "rb", block_size=BLOCK) as stream:
            while block := stream.read(BLOCK):
                yield block

    def put(self, folder: Path, paths: list[str]) -> str:
        """`folder`: with release/ in it. The manifest comes last: what has one is whole, and is not put again. Where it
        lies."""
        with answered(self.url):
            if not self.files.exists(f"{self.root}/{MANIFEST_PATH}"):
                for path in sorted(paths, key=MANIFEST_PATH.__eq__):
                    self.put_file(folder / path, f"{self.root}/{path}")
            elif SIGNATURE in paths:  # of another key, or the first one
                self.put_file(folder / SIGNATURE, f"{self.root}/{SIGNATURE}")
        return f"{self.url.rstrip('/')}/{self.root.rpartition('/')[2]}"

    def put_file(self, source: Path, target: str) -> None:
        """An object of S3 is whole or absent, a file is renamed to its place."""
        if "file" not in self.files.protocol:
            self.files.put_file(str(source), target)
            return
        self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.files.put_file(str(source), f"{target}.partial")
        Path(f"{target}.partial").replace(target)


@contextmanager
def answered(url: str, path: str = "") -> Iterator[None]:
    """Raises InputError where it is not there, ExternalError of whatever else a file system raises."""
    try:
        yield
    except TunegateError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{url}: has no {path}", hint=f"tunegate releases push NAME@DIGEST --to {url}") from error
    except Exception as error:
        raise ExternalError(
            f"{url} cannot be used: {cause_of(error)}",
            hint="see that it exists and what this machine may do there; s3://: the environment's AWS_… or ~/.aws",
        ) from error
