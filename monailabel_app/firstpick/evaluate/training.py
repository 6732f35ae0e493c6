"""One training loop for all arms and tasks: fixed steps, no early stopping, one thread, one seed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[str]:
    """Seed torch and keep it on one thread, and say on which device to train.

    On one thread the sums are the same on every run; several trainings run side by side instead. On a GPU, numbers
    may differ in their last digits.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield "cuda" if torch.cuda.is_available() else "cpu"
    finally:
        torch.set_num_threads(n_threads)


def train(
    model: nn.Module,
    batch: Callable[[], tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    n_steps: int,
    rate: float,
    device: str,
) -> None:
    """Train in place for a fixed number of steps (AdamW, one cycle of the learning rate), and leave it in eval mode.

    Parameters
    ----------
    model : Module
    batch : callable
        Gives pictures and targets.
    loss : callable
        Of the model's output and the targets.
    n_steps : int
    rate : float
        Highest learning rate.
    device : str
    """
    model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=n_steps)
    for _ in range(n_steps):
        pictures, targets = batch()
        optimiser.zero_grad()
        torch.autograd.backward(loss(model(pictures.to(device)), targets.to(device)))
        optimiser.step()
        schedule.step()
    model.eval()
