"""When memory runs out, in whatever library: the batch is halved, and stays so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from firstpick.encoders import Encoder

_KINDS = {"OutOfMemoryError", "ResourceExhaustedError"}  # torch's and TensorFlow's
_TEXTS = ("not enough memory", "out of memory", "can't allocate memory", "failed to allocate memory", "alloc_failed")


class Patient:
    """An encoder that is built, and how many parts it may take at once.

    Parameters
    ----------
    encoder : Encoder
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.most = sys.maxsize

    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode parts; where memory runs out take half as many at once, now and from then on, down to one."""
        rows: list[NDArray[np.float32]] = []
        done = 0
        while done < len(parts):
            some = parts[done : done + self.most]
            encoded = self._attempt(some)
            if encoded is None:
                self.most = len(some) // 2
                _free()
            else:
                rows.append(encoded)
                done += len(some)
        return np.concatenate(rows)

    def _attempt(self, parts: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return None where memory ran out and fewer parts may still fit."""
        try:
            return self.encoder.encode(parts)
        except Exception as error:
            if len(parts) > 1 and is_out_of_memory(error):
                return None
            raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library says that memory, the GPU's or the machine's, did not suffice."""
    if isinstance(error, MemoryError) or type(error).__name__ in _KINDS:
        return True
    text = str(error).lower()
    return any(known in text for known in _TEXTS)


def _free() -> None:
    """Give back what torch keeps of the attempt."""
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
