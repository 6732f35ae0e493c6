"""What comes before an encoder is built: its libraries are imported, and its weights fetched, once for all workers."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace

from firstpick.encoders import EncoderSpec, encoder_row, hub_id, is_third_party
from firstpick.encoders.gpu import n_gpus
from firstpick.encoders.third_party import import_source


def gpus_for(spec: EncoderSpec) -> int:
    """Import what the encoder is made of, and say how many GPUs could run it."""
    row = encoder_row(spec.name)
    if not row.missing():
        importlib.import_module(row.builder.partition(":")[0])
    if is_third_party(spec):
        import_source(spec)
        return n_gpus() if "torch" in sys.modules else 0
    return n_gpus() if row.runs_on_gpu else 0


def fetch_weights(spec: EncoderSpec) -> EncoderSpec:
    """Fetch what lies on a hub; return the same encoder with the folder that it was fetched to.

    Raises
    ------
    EncoderError
        If it cannot be had, with the reason.
    """
    row = encoder_row(spec.name)
    if not hub_id(spec) or row.missing():  # else `build_encoder` says what to type
        return spec
    from firstpick.encoders.hub import model_folder  # noqa: PLC0415 - a library that only the hub's encoders need

    module = importlib.import_module(row.builder.partition(":")[0])
    return replace(spec, weights=str(model_folder(spec, rename=getattr(module, "hub_name", str))))
