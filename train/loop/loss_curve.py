"""The loss curve of a training, drawn in the terminal."""

from __future__ import annotations

from configs.training_record import TrainingRecord


def draw_losses(record: TrainingRecord, name: str, width: int, height: int = 20) -> str:
    """Training loss (dots) and validation loss (●) by step, `width` columns by `height` rows, from a training record
    (trained/training.json)."""
    import plotext

    figure = plotext.figure  # plotext has one
    figure.clear()
    figure.plot_size(width, height)
    training = [(line["step"], line["loss"]) for line in record["losses"]]
    validation = [(line["step"], line["eval_loss"]) for line in record["validation"]]
    for points, marker in ((training, "hd"), (validation, "●")):
        if points:
            steps, losses = zip(*points, strict=True)
            figure.draw(figure.signal(list(steps), list(losses), marker=marker))
    figure.title(
        f"{name}: loss by step; ● validation, best {record['best_validation_loss']:.4g} at step {record['best_step']}"
    )
    return str(plotext.uncolorize(str(figure.build())))
