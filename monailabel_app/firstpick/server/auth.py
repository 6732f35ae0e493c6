"""Who asks: tokens of the OpenID provider that MONAI Label is told of, and the roles that each route wants.

MONAI Label 0.8.5 refuses every token: it does not say by which algorithm they are signed. Here is its check, once more,
and stricter: of this provider, for this client, by RS256 and nothing else. Its own routes use it, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

import jwt
import requests
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.config import settings
from monailabel.endpoints.user.auth import DEFAULT_USER, RBAC, Token, User, get_current_user, oauth2_scheme
from pydantic import TypeAdapter

logger = logging.getLogger(__name__)


async def _anybody() -> User:
    return DEFAULT_USER


def _role(name: str) -> Any:
    return Depends(RBAC(name) if settings.MONAI_LABEL_AUTH_ENABLE else _anybody)


USER = _role(settings.MONAI_LABEL_AUTH_ROLE_USER)
"""Who looks, and takes, keeps or gives back a study: what MONAI Label asks for its next sample."""

ANNOTATOR = _role(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)
"""Who decides for everybody: what MONAI Label asks for a label."""

ADMIN = _role(settings.MONAI_LABEL_AUTH_ROLE_ADMIN)
"""Who may see logs and make the app anew."""

_ALGORITHMS = ["RS256"]
_LEEWAY_S = 30.0
_KEYS_FOR_S = 3600.0
_TOKEN = TypeAdapter(Token)


@dataclass(frozen=True)
class _Described:
    """What a provider says of itself."""

    issuer: str
    token_endpoint: str
    keys: jwt.PyJWKClient


class Provider:
    """The OpenID provider of MONAI Label's settings; asked when the first token comes."""

    def __init__(self) -> None:
        self._realm = settings.MONAI_LABEL_AUTH_REALM_URI.rstrip("/")
        self._client = settings.MONAI_LABEL_AUTH_CLIENT_ID
        self._timeout = settings.MONAI_LABEL_AUTH_TIMEOUT
        self._known: _Described | None = None

    def user(self, token: Annotated[str, Depends(oauth2_scheme)]) -> User:
        """Return whose token it is.

        Raises
        ------
        HTTPException
            401 with the reason, or 503 if the provider cannot be asked.
        """
        claims = self._claims(token)
        name = claims.get(settings.MONAI_LABEL_AUTH_TOKEN_USERNAME) or claims.get("sub") or ""
        return User(username=str(name)[:256], roles=_roles(claims))

    def sign_in(self, username: str, password: str) -> Token:
        """Get a token for a name and a password; HTTPException 401 with the provider's reason if it gives none."""
        form = {"client_id": self._client, "username": username, "password": password, "grant_type": "password"}
        try:
            answer = requests.post(self._described().token_endpoint, form, timeout=self._timeout)
            said = answer.json()
            if answer.status_code in (400, 401, 403):
                reason = str(said.get("error_description") or said.get("error"))[:300]
                raise HTTPException(401, f"You were not signed in. The OpenID provider says: {reason}.")
            answer.raise_for_status()
            return _TOKEN.validate_python(said)
        except (requests.RequestException, ValueError, AttributeError) as error:
            raise self._away(error) from error

    def _claims(self, token: str) -> dict[str, Any]:
        described = self._described()
        options: Any = {"require": ["exp", "iss"], "verify_aud": False}  # whom it was made for: see below
        try:
            key = described.keys.get_signing_key_from_jwt(token)
            claims: dict[str, Any] = jwt.decode(
                token, key, _ALGORITHMS, options, issuer=described.issuer, leeway=_LEEWAY_S
            )
        except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError) as error:
            raise self._away(error) from error
        except (jwt.PyJWTError, RecursionError) as error:
            raise _not_accepted(str(error)) from error
        said = claims.get("aud")
        audience = said if isinstance(said, list) else [said]
        if self._client not in (*audience, claims.get("azp"), claims.get("client_id")):
            reason = f"it was not made for {self._client}"
            raise _not_accepted(reason)
        return claims

    def _described(self) -> _Described:
        """Ask the provider for what it says of itself, until it has answered once."""
        if self._known is None:
            try:
                answer = requests.get(f"{self._realm}/.well-known/openid-configuration", timeout=self._timeout)
                answer.raise_for_status()
                said = answer.json()
                keys = jwt.PyJWKClient(said["jwks_uri"], lifespan=_KEYS_FOR_S, timeout=self._timeout)
                self._known = _Described(str(said["issuer"]), str(said["token_endpoint"]), keys)
            except (requests.RequestException, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
                raise self._away(error) from error
        return self._known

    def _away(self, error: Exception) -> HTTPException:
        logger.error("The OpenID provider %s cannot be used: %r", self._realm, error)
        return HTTPException(503, "Who you are cannot be checked: the OpenID provider does not answer as it should.")


def check_tokens(server: FastAPI) -> list[APIRouter]:
    """Check the tokens of all routes here, MONAI Label's own too, if its settings say that there are any.

    Returns
    -------
    list of APIRouter
        With the route that signs people in: MONAI Label's own contract, but a refusal is no error 500.
    """
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        return []
    provider = Provider()
    server.dependency_overrides[get_current_user] = provider.user
    router = APIRouter(prefix="/auth", tags=["Auth"])

    @router.post("/token", summary="Fetch new access code/token")
    def access_token(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Token:
        return provider.sign_in(form.username, form.password)

    return [router]


class AnnotatorFirst(APIRoute):
    """A route that asks who sends before it reads what is sent: FastAPI reads the whole body, then asks."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's own handler."""
        handle = super().get_route_handler()

        async def ask_and_handle(request: Request) -> Response:
            if settings.MONAI_LABEL_AUTH_ENABLE:
                token = await oauth2_scheme(request)
                user = await run_in_threadpool(request.app.dependency_overrides[get_current_user], token)
                await RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)(user)
            return await handle(request)

        return ask_and_handle


def _roles(claims: dict[str, Any]) -> list[str]:
    found: Any = claims
    for name in settings.MONAI_LABEL_AUTH_TOKEN_ROLES.split("#"):
        found = found.get(name) if isinstance(found, dict) else None
    return [role for role in found if isinstance(role, str)] if isinstance(found, list) else []


def _not_accepted(reason: str) -> HTTPException:
    text = f"Your sign-in is not accepted: {reason}. Sign in again."
    return HTTPException(401, text, headers={"WWW-Authenticate": "Bearer"})
