"""Signatures of published releases, in the DVC remote beside DVC's own: signatures/NAME@DIGEST12/…, as they lie in
releases/ here.

They are not among what a release's pointer in git names (.dvcignore): a merge request pins what was judged, it is
signed after the merge, and the pin stays what was reviewed.
"""

from __future__ import annotations

import re
from pathlib import Path

from configs.errors import ExternalError, RefusedError
from configs.section import NAME_PATTERN
from infra.dvc.evaluations import remote_folder
from infra.dvc.judgements import judged_folders, judgement_folders
from infra.files.atomic import new_file
from infra.signing import SIGNATURE, sign, signature_of, verify_signature

KNOWN = re.compile(rf"(judged/{NAME_PATTERN.strip('^$')}/)?(model|gate|eval)\.sig")


def signed_folders(target: Path) -> list[Path]:
    """The release first; then what it was judged by, for each environment."""
    judgements = [folder for where in judgement_folders(target) for folder in judged_folders(where)]
    return [target / "release", *judgements]


def sign_folders(target: Path, key: Path, *, anew: bool = False) -> None:
    """Those that have no signature yet, for one is as immutable as what it signs; `anew`: all, for the key is
    another."""
    for folder in signed_folders(target):
        if anew or not signature_of(folder).exists():
            sign(folder, key)


def keep_signatures(target: Path) -> None:
    """Those of releases/NAME@DIGEST12 into the remote. Raises ExternalError where it does not answer."""
    with remote_folder("signatures", target.name) as (files, place):
        for path in sorted(target.rglob("*.sig")):
            there = files.join(place, *path.relative_to(target).parts)
            files.makedirs(files.parent(there), exist_ok=True)
            files.put_file(str(path), there)


def bring_signatures(target: Path) -> bool:
    """True if the remote has one that is not here as it is there; it then is. Raises ExternalError where the remote
    does not answer."""
    brought = False
    with remote_folder("signatures", target.name) as (files, place):
        for there in files.find(place) if files.exists(place) else []:
            relative = files.relpath(there, place).replace("\\", "/")
            path = target / relative
            if not KNOWN.fullmatch(relative) or not path.parent.is_dir():
                continue
            signature = files.cat_file(there)
            if not path.exists() or path.read_bytes() != signature:
                with new_file(path) as partial:
                    partial.write_bytes(signature)
                brought = True
    return brought


def is_signed(target: Path) -> bool:
    """As far as the remote knows: by any key."""
    with remote_folder("signatures", target.name) as (files, place):
        return bool(files.exists(files.join(place, SIGNATURE)))


def verify_published(target: Path, folder: Path, public_key: str, reference: str) -> None:
    """`folder`: a part of releases/NAME@DIGEST12. Its signature here holds, or the one that the remote has. Raises as
    `verify_signature`."""
    try:
        verify_signature(folder, public_key, reference)
    except RefusedError as refused:
        try:
            brought = bring_signatures(target)
        except ExternalError as error:
            found = f"{refused.message}; another may be in the DVC remote, which did not answer: {error.message}"
            raise RefusedError(found, hint=refused.hint) from error
        if not brought:
            raise
        verify_signature(folder, public_key, reference)
