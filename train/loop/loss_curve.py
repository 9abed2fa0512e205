"""The loss curve of a training, drawn in the terminal."""

from __future__ import annotations

from typing import Any


def draw_losses(record: dict[str, Any], name: str, width: int, height: int = 20) -> str:
    """Training loss (dots) and validation loss (●) by step, `width` columns by `height` rows, from a training record
    (trained/training.json)."""
    import plotext

    figure = plotext.figure  # plotext has one
    figure.clear()
    figure.plot_size(width, height)
    for lines, key, marker in ((record["losses"], "loss", "hd"), (record["validation"], "eval_loss", "●")):
        if lines:
            figure.draw(figure.signal([line["step"] for line in lines], [line[key] for line in lines], marker=marker))
    figure.title(
        f"{name}: loss by step; ● validation, best {record['best_validation_loss']:.4g} at step {record['best_step']}"
    )
    return str(plotext.uncolorize(str(figure.build())))
