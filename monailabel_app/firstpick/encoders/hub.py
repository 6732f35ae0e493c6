"""The folder with a model's files: on this disk, or from the Hugging Face hub if the configuration names it there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, errors, snapshot_download

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row

_SETTINGS = ["*.json"]
_SAFE = ["*.safetensors"]
_PICKLED = ["*.bin", "*.pt", "*.pth", "*.ckpt"]  # fetched only where nothing safer is there, read as plain tensors only
_REPOSITORY = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def model_folder(spec: EncoderSpec, *, rename: Callable[[str], str] = str) -> Path:
    """Return the folder with a model's settings and weights.

    Parameters
    ----------
    spec : EncoderSpec
        Key ``weights`` is looked at first, then what follows the family's prefix, then the row's own hub id. Each is a
        folder, or ``OWNER/REPOSITORY`` on the hub, with ``@REVISION`` to hold to one.
    rename : callable
        Turns a library's own name for a model into a hub id.

    Raises
    ------
    EncoderError
        If there is no such folder or repository, it may not be read, or the hub cannot be reached.
    """
    where = spec.weights or spec.argument or encoder_row(spec.name).hub
    path = Path(where).expanduser()
    if path.is_dir():
        return path
    found = _REPOSITORY.fullmatch(rename(where))
    if path.is_file() or found is None:
        msg = f"encoder '{spec.name}': '{where}' is neither a folder with a model nor a hub id (OWNER/REPOSITORY)."
        raise EncoderError(msg)
    return _download(spec.name, found["id"], found["revision"])


def weights_in(folder: Path) -> Path:
    """Return the one file with weights in a folder; ``.safetensors`` wins."""
    for patterns in (_SAFE, _PICKLED):
        files = sorted(file for pattern in patterns for file in folder.glob(pattern))
        if len(files) == 1:
            return files[0]
        if files:
            msg = f"'{folder}' holds several files with weights: {', '.join(file.name for file in files)}. Keep one."
            raise EncoderError(msg)
    msg = f"'{folder}' holds no weights ({', '.join(_SAFE + _PICKLED)})."
    raise EncoderError(msg)


@contextmanager
def said_in_one_sentence(spec: EncoderSpec, folder: Path) -> Iterator[None]:
    """Turn whatever a library raises over a model's files into one EncoderError."""
    try:
        yield
    except EncoderError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or "no reason given"
        msg = f"encoder '{spec.name}': the model in '{folder}' cannot be loaded ({type(error).__name__}: {reason})."
        raise EncoderError(msg) from error


def _download(name: str, repository: str, revision: str | None) -> Path:
    """Fetch what is not in the hub's cache; without a network, what is in it is taken."""
    where = f"'{repository}'" + (f" at '{revision}'" if revision else "")
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=_SETTINGS + _SAFE))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=_SETTINGS + _PICKLED))
    except errors.GatedRepoError as error:
        page = f"https://huggingface.co/{repository}"
        reason = f"its owner asks for an agreement. Accept it at {page}, then type: hf auth login"
        raise _failure(name, where, reason) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise _failure(name, where, "neither a folder here nor a repository of that name on the hub") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        reason = (
            f"the hub cannot be reached and the files are not in its cache, {constants.HF_HUB_CACHE} (HF_HOME sets "
            "another). Give a folder with them as key weights"
        )
        raise _failure(name, where, reason) from error
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        raise _failure(name, where, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    return folder


def _failure(name: str, where: str, reason: str) -> EncoderError:
    return EncoderError(f"encoder '{name}': {where} cannot be had: {reason}.")
