"""Errors of the server as plain text: every answer says what is wrong and what to do."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from firstpick.database import StoreError

logger = logging.getLogger(__name__)


def explain_errors(server: FastAPI) -> None:
    """Give every error a text under ``detail``, for MONAI Label's own routes too, instead of a bare 500."""
    server.add_exception_handler(StoreError, _cannot_store)
    server.add_exception_handler(OSError, _disk)
    server.add_exception_handler(RequestValidationError, _not_valid)
    server.add_exception_handler(Exception, _unexpected)
    server.middleware_stack = server.build_middleware_stack()  # it was built when the server started


def _cannot_store(_: Request, error: Any) -> JSONResponse:
    logger.error("%s", error)
    return JSONResponse({"detail": str(error)}, status_code=507)


def _disk(request: Request, error: Any) -> JSONResponse:
    """Tell a disk that is full or read-only from what nobody expects."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return _cannot_store(request, f"The disk of the state folder cannot be written: {error.strerror}.")
    return _unexpected(request, error)


def _not_valid(_: Request, error: Any) -> JSONResponse:
    """Say what is wrong with which value. FastAPI would send the value back, which need not be possible as JSON."""
    texts = [f"{'.'.join(map(str, problem['loc']))}: {problem_text(problem)}" for problem in error.errors()]
    return JSONResponse({"detail": " ".join(texts).encode("utf-8", "replace").decode()}, status_code=422)


def problem_text(problem: Mapping[str, Any]) -> str:
    """Say what pydantic or FastAPI found, as a sentence."""
    if problem["type"] == "json_invalid":
        return f"It is no JSON: {problem['ctx']['error']}."
    return f"{problem['msg'].removeprefix('Value error, ')}."


def _unexpected(_: Request, error: Any) -> JSONResponse:
    """Say what went wrong; the traceback goes to the log."""
    text = str(getattr(error, "msg", "")) or str(error) or type(error).__name__
    return JSONResponse({"detail": f"The server could not do that: {text}"}, status_code=500)
