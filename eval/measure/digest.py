"""The name under which something asked or measured is kept."""

from __future__ import annotations

import hashlib
import json


def json_digest(value: object) -> str:
    """Hex sha256 of a value as JSON with sorted keys; what JSON does not know goes in as its text.

    Not `configs.digest.key_of`, whose separators are others: evaluations and answers that are kept bear these names.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
