"""Length of a run in steps."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.run.settings import RunSettings
from zoo.terminal import count

__all__ = ["count_steps"]


def count_steps(
    settings: RunSettings, batches_per_epoch: int, batches_per_step: int, *, round_each_epoch: bool = False
) -> int:
    """Number of steps of a run.

    Args:
        settings: Settings of the run, with ``epochs`` or ``images``.
        batches_per_epoch: Whole batches in the training images.
        batches_per_step: Batches that a step of the model draws.
        round_each_epoch: Round down in each epoch, as zoo 0.1.0 did; its runs are resumed to the length that they
            began with.

    Raises:
        UsageError: If the epochs have fewer batches than one step needs.
    """
    if settings.images is not None:
        return max(1, settings.images // (batches_per_step * settings.batch))
    epochs = settings.epochs or 0
    if round_each_epoch:
        return batches_per_epoch // batches_per_step * epochs
    batches = batches_per_epoch * epochs
    if epochs and batches < batches_per_step:
        raise UsageError(
            f"batch: {settings.batch} is not allowed; {settings.model} draws {batches_per_step} batches per "
            f"step, but has {batches} in {count(epochs, 'epoch')}; use a smaller batch or more epochs"
        )
    return batches // batches_per_step
