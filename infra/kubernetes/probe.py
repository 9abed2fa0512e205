"""What the pod of a model server asks its own server. The kubelet runs it as a file, so it needs nothing but the
standard library:

python probe.py answers PATH BODY SECONDS        # 0: it gets on with its users' requests, or answers this one
python probe.py drain FLOOR LONGEST STILL        # returns when no request runs or waits, at the latest after LONGEST

A server that is full is no dead one: it is asked only where it has written and read no token since the last look, and
its answer may wait behind others' as long as it gets on with those.
"""

from __future__ import annotations

import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

PORT = 8000
# As infra.vllm.counters has them: what grows as long as a server gets anywhere.
PROGRESS = ("vllm:request_success_total{", "vllm:generation_tokens_total{", "vllm:prompt_tokens_total{")
OPEN = ("vllm:num_requests_running{", "vllm:num_requests_waiting{")
SEEN = Path("/tmp/tunegate-progress")
READ_SECONDS, POLL_SECONDS = 3.0, 0.5
QUIET_LOOKS = 2  # in a row: a request on its way into the engine is in neither count


def main(words: list[str], port: int = PORT, seen: Path = SEEN) -> int:
    verb, *rest = words
    if verb == "answers":
        path, body, seconds = rest
        return 0 if answers(port, path, body, float(seconds), seen) else 1
    floor, longest, still = map(float, rest)
    print(drain(port, floor, longest, still), flush=True)
    return 0


def answers(port: int, path: str, body: str, seconds: float, seen: Path) -> bool:
    before, now = read_seen(seen), total(port, PROGRESS)
    if now is None:
        return False
    seen.write_text(repr(now), encoding="utf8")
    if before is not None and now > before:
        return True
    if post(port, path, body, seconds) == 200:
        return True
    later = total(port, PROGRESS)
    return later is not None and later > now


def drain(port: int, floor: float, longest: float, still: float) -> str:
    """`floor`: seconds that routers get to see that no more is to come; `still`: without a token more, and it is hung.
    Returns why it has ended."""
    begun = moved = time.monotonic()
    quiet, before = 0, None
    while (now := time.monotonic()) - begun < longest:
        waiting = total(port, OPEN)
        progress = total(port, PROGRESS)
        if waiting is None and is_gone(port):
            return "the server has ended"
        if waiting is None or progress != before:
            before, moved = progress, (now if progress is not None else moved)
        quiet = quiet + 1 if waiting == 0 else 0
        if quiet >= QUIET_LOOKS and now - begun >= floor:
            return "no request runs or waits"
        if now - moved >= max(still, floor):
            return f"{waiting or 0:g} requests are open, and none gets on"
        time.sleep(POLL_SECONDS)
    return "the deadline has passed"


def total(port: int, names: tuple[str, ...]) -> float | None:
    """Over all engines of the server; None where it says nothing."""
    text = get(port, "/metrics")
    lines = [line for line in (text or "").splitlines() if line.startswith(names)]
    return (
        sum(float(line.rpartition(" ")[2]) for line in lines if 'finished_reason="abort"' not in line)
        if lines
        else None
    )


def get(port: int, path: str) -> str | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=READ_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode("utf8", "replace")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def post(port: int, path: str, body: str, seconds: float) -> int | None:
    """Its status, with the whole answer read."""
    connection = HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("POST", path, body.encode(), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def is_gone(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=READ_SECONDS)
    try:
        connection.connect()
        return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    finally:
        connection.close()


def read_seen(seen: Path) -> float | None:
    try:
        return float(seen.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
