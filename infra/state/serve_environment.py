"""Which of two environments vLLM is started from: under a server that runs from one the other is made, as releases have
two slots. `python -m infra.state.serve_environment LOCK` prints the one that `make setup` is to bring to that lock.
Of the standard library alone: `make` asks before there is any environment."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.files.in_use import users_of

PLACES = (Path(".venv-serve"), Path(".venv-serve-next"))
LOCKS = (Path("requirements/serve.txt"), Path("requirements/gpu-serve.txt"))
READY = ".ready"  # the lock that it was made of; of an earlier tunegate's empty, and as new as the making


def current() -> Path:
    """The one that was made of a lock as it is now; else, until `make setup` has made that, the newest."""
    wanted = [path.read_bytes() for path in LOCKS if path.exists()]
    made = sorted((place for place in PLACES if (place / READY).exists()), key=lambda place: -made_at(place))
    return next((place for place in made if (place / READY).read_bytes() in wanted), (made or PLACES)[0])


def to_be_made(lock: Path) -> Path:
    """The one that is of this lock already, else one that nothing runs from; the first one where both are in use."""
    fitting = (place for place in PLACES if is_of(place, lock))
    return next(fitting, None) or next((place for place in PLACES if not users_of(place)), PLACES[0])


def is_of(place: Path, lock: Path) -> bool:
    ready = place / READY
    if not ready.exists() or not lock.exists():
        return False
    text = ready.read_bytes()
    return text == lock.read_bytes() if text else made_at(place) >= lock.stat().st_mtime


def made_at(place: Path) -> float:
    return (place / READY).stat().st_mtime


if __name__ == "__main__":
    print(to_be_made(Path(sys.argv[1])))
