"""An OpenID provider on loopback: it describes itself, shows its public key and signs tokens with RS256."""

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT = "monailabel-app"
PASSWORD = "correct horse"  # noqa: S105 - of a provider that lives for a test


class Provider:
    """Started at once; `people` is who can sign in, with their roles."""

    def __init__(self, **people):
        self.people = people
        self.keys = {"first": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.n_asked = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.n_asked += 1
                documents = {
                    "/realm/.well-known/openid-configuration": provider.description,
                    "/realm/keys": provider.key_set,
                }
                self.answer(200, documents[self.path]) if self.path in documents else self.answer(404, {})

            def do_POST(self):
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                name = form["username"][0]
                if name in provider.people and form["password"] == [PASSWORD]:
                    self.answer(200, {"access_token": provider.token(name), "token_type": "Bearer"})
                else:
                    self.answer(401, {"error": "invalid_grant", "error_description": "Invalid user credentials"})

            def answer(self, status, document):
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self._server.server_port}/realm"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    @property
    def description(self):
        return {
            "issuer": self.realm,
            "jwks_uri": f"{self.realm}/keys",
            "token_endpoint": f"{self.realm}/token",
        }

    @property
    def key_set(self):
        algorithm = jwt.algorithms.RSAAlgorithm
        return {
            "keys": [
                {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": "RS256"}
                for kid, key in self.keys.items()
            ]
        }

    def claims(self, name, **other):
        """What a token of Keycloak says."""
        now = int(time.time())
        roles = {"roles": [f"monailabel-{role}" for role in self.people[name]]}
        said = {
            "iss": self.realm,
            "sub": f"id-of-{name}",
            "azp": CLIENT,
            "aud": "account",
            "iat": now,
            "exp": now + 300,
        }
        said |= {"preferred_username": name, "realm_access": roles} | other
        return {key: value for key, value in said.items() if value is not None}

    def token(self, name, *, kid="first", key=None, **other):
        """Sign a token; a claim that is None is left out."""
        return jwt.encode(self.claims(name, **other), key or self.keys[kid], "RS256", {"kid": kid})

    def forged(self, name, algorithm):
        """Make a token that says that it needs no signature, or that the public key is the secret of one."""
        parts = [{"alg": algorithm, "typ": "JWT", "kid": "first"}, self.claims(name)]
        text = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public = self.keys["first"].public_key().public_bytes(serialization.Encoding.PEM, form)
        sign = {"none": b"", "HS256": hmac.new(public, text.encode(), hashlib.sha256).digest()}
        return f"{text}.{_base64(sign[algorithm])}"


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
