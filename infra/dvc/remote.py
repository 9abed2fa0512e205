"""What the DVC remote has of published releases, and what may leave the cache and the remote. With
infra/dvc/releases.py the only user of DVC."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infra.dvc.releases import RELEASES, pointer_of
from infra.dvc.repository import repository


def in_remote(targets: Iterable[Path]) -> set[Path]:
    """Those whose every object the remote has. Raises ExternalError where it does not answer."""
    with repository() as repo:
        remote = repo.cloud.get_remote_odb(hash_name="md5")
        return {
            target
            for target in targets
            if (wanted := objects_of(repo, target)) and wanted <= set(remote.oids_exist(wanted))
        }


def objects_of(repo: Any, target: Path) -> set[str]:
    """Of its pointer: the directory's listing, brought here where it is not, and each file. Empty where the listing is
    nowhere."""
    (out,) = repo.stage.load_one(str(pointer_of(target))).outs
    return {str(one.value) for found in out.get_used_objs(force=True).values() for one in found}


def drop_from_cache(target: Path) -> None:
    """Takes this release's objects out of the cache here, but for those that anything else of this checkout has too."""
    with repository() as repo:
        others = [out for out in outs_here(repo) if Path(out.fs_path).resolve() != target.resolve()]
        used, cache = {oid for out in others for oid in cached_objects(out)}, repo.cache.local
        for oid in sorted(objects_of(repo, target) - used):
            if cache.exists(oid):
                cache.delete(oid)


def outs_here(repo: Any) -> list[Any]:
    """Of the pipeline and of every release pointer: DVC itself overlooks those in a checkout whose .gitignore still
    says /releases/*."""
    pointed = [repo.stage.load_one(str(path)) for path in sorted(RELEASES.glob("*@*.dvc"))]
    return [*repo.index.outs, *(out for stage in pointed for out in stage.outs)]


def cached_objects(out: Any) -> set[str]:
    """Of what is in the cache here: nothing is fetched to find out."""
    found = out.get_obj() if out.hash_info else None
    inside = {str(hash_info.value) for _, _, hash_info in found} if out.is_dir_checksum and found else set()
    return inside | ({str(out.hash_info.value)} if out.hash_info else set())


def collect_garbage(act: bool) -> int:
    """How many objects of the remote no commit of any ref, and nothing in this checkout, refers to; with `act` they are
    gone.

    Raises ExternalError where the listing of a published directory is nowhere: what it refers to is then not known, so
    nothing goes.
    """
    from dvc_data.hashfile.gc import gc

    with repository() as repo:
        used: set[Any] = set().union(*repo.used_objs(all_commits=True).values())
        for out in outs_here(repo):
            used = used.union(*out.get_used_objs().values())
        remote = repo.cloud.get_remote_odb(hash_name="md5")
        return int(gc(remote, used, dry=not act))
