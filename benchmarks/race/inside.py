"""A peer's own command, untouched, in a process of its environment; what it feeds its Trainer is written down.

    build/race/axolotl/bin/python -P benchmarks/race/inside.py axolotl race FOLDER TARGET
    build/race/axolotl/bin/python -P benchmarks/race/inside.py axolotl cases FOLDER

`race`: seconds and validation loss by step (TARGET), and the rows as tokens (TARGET with .rows.json).
`cases`: each CASE/config.yml under FOLDER for one step, in a fork, for the imports take a minute: CASE/seen.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def axolotl() -> Callable[[Path], None]:
    import axolotl.train  # noqa: F401
    from axolotl.cli.main import main

    def start(config: Path) -> None:
        sys.argv = ["axolotl", "train", str(config), "--launcher", "python"]
        main()

    return start


def llama_factory() -> Callable[[Path], None]:
    import llamafactory.train.tuner  # noqa: F401
    from llamafactory.cli import main

    def start(config: Path) -> None:
        sys.argv = ["llamafactory-cli", "train", str(config)]
        main()

    return start


COMMANDS: dict[str, Callable[[], Callable[[Path], None]]] = {"axolotl": axolotl, "llama-factory": llama_factory}


def read_rows(dataset: Any, tokenizer: Any) -> list[dict[str, Any]]:
    """Each row's lists of whole numbers; `text`: all of it, `loss`: the tokens that carry loss."""
    rows = []
    for row in dataset:
        tokens = {key: list(map(int, value)) for key, value in row.items() if key.endswith(("ids", "labels"))}
        loss = {key: [token for token in value if token >= 0] for key, value in tokens.items() if "labels" in key}
        rows.append(
            {
                **tokens,
                "text": {key: tokenizer.decode(value) for key, value in tokens.items() if key.endswith("ids")},
                "loss": {key: tokenizer.decode(value) for key, value in loss.items()},
            }
        )
    return rows


def witness(base: Any, target: Path) -> Any:
    """A callback class that writes rows and the first weight as training begins, and is otherwise `base`."""

    class Witness(base):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            rows = read_rows(given["train_dataloader"].dataset, given["processing_class"])
            weight = float(next(given["model"].parameters()).flatten()[0])
            target.write_text(json.dumps({"weight": weight, "rows": rows}), encoding="utf8")
            super().on_train_begin(args, state, control, **given)

    return Witness


def in_a_fork(start: Callable[[Path], None], config: Path) -> None:
    """Its words go to log.txt, its end to seen.json."""
    from transformers import TrainerCallback
    from transformers.trainer import DEFAULT_CALLBACKS

    folder = config.parent
    if child := os.fork():
        os.waitpid(child, 0)
        return
    log = os.open(folder / "log.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    DEFAULT_CALLBACKS.append(witness(TrainerCallback, folder / "rows.json"))
    error = ""
    try:
        start(config)
    except SystemExit as ended:
        error = "" if ended.code in (None, 0) else f"exit {ended.code}"
    except BaseException as raised:
        import traceback

        traceback.print_exc()
        error = f"{type(raised).__name__}: {raised}"
        if raised.__cause__ and "Traceback" not in str(raised.__cause__):
            error += f" ({type(raised.__cause__).__name__}: {raised.__cause__})"
    (folder / "seen.json").write_text(json.dumps({"error": error}), encoding="utf8")
    os._exit(0)


def main() -> None:
    peer, what, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    start = COMMANDS[peer]()
    if what == "cases":
        for config in sorted(folder.glob("*/config.yml")):
            in_a_fork(start, config)
        return
    sys.path.insert(0, str(ROOT))
    from benchmarks.train.arms import clock

    sys.path.remove(str(ROOT))
    from transformers.trainer import DEFAULT_CALLBACKS

    target = Path(sys.argv[4])
    settings, validation = (
        json.loads((folder / name).read_text(encoding="utf8")) for name in ("settings.json", "validation.json")
    )
    base = clock(validation, settings["every"], target)
    DEFAULT_CALLBACKS.append(witness(base, target.with_suffix(".rows.json")))
    start(folder / peer / "config.yml")


if __name__ == "__main__":
    main()
