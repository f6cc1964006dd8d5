"""What stands before the page: who may ask, from where, how much, and what may run in it.

The page runs code and writes files for whoever asks, so that a foreign page in the same browser
must not ask in its user's name. Host (DNS rebinding) and Origin (cross-site requests) are checked
for every request, a session cookie is needed for all but the door, bodies are counted as they
come, and a content security policy with a nonce lets no script run that the page did not bring.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.exceptions import HTTPException

from lorakit.web.door import Door

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE = ("GET", "HEAD", "OPTIONS")
# What Gradio serves that no part of the page uses: a proxy to other sites, monitors, a schema.
CLOSED = ("/proxy", "/mcp", "/monitoring", "/dev", "/vibe", "/openapi.json")
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
}
# Gradio makes its templates by `new Function`, hence 'unsafe-eval'; scripts in the document need
# the nonce, so that none that came in by a name or a text would run.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' 'nonce-{nonce}'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; manifest-src 'self'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
SCRIPT = re.compile(rb"<script(?=[\s>])")


class Guard:
    """ASGI middleware. `hosts` are the values of Host that are the page's own.

    Bodies of more than `limit` bytes are refused; `upload` is the limit of the upload's route.
    """

    def __init__(
        self, app: App, *, door: Door, hosts: frozenset[str], limit: int, upload: int
    ) -> None:
        self.app = app
        self.door = door
        self.hosts = hosts
        self.limit = limit
        self.upload = upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say in one line why not."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        refused = self._refusal(scope)
        if refused is not None:
            await answer(send, *refused)
            return
        counted = _Counted(receive, self._limit(scope["path"]))
        if counted.declared_too_large(scope):
            await answer(send, 413, counted.told)
            return
        if await self.door.answers(scope, counted, send, self._cookie(scope)):
            return
        await self._serve(scope, counted, send)

    async def _serve(self, scope: Scope, counted: _Counted, send: Send) -> None:
        if scope["path"] == "/":
            # The page's own document, and no file that is served, gets a nonce; seen as it is.
            scope["headers"] = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]
            send = _Nonced(send)
        await self.app(scope, counted, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        hosts = header(scope, b"host")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return 403, f"Not an address of this page. Open {self.door.address}"
        origins = header(scope, b"origin")
        own = {f"{kind}://{host}" for kind in ("http", "https") for host in self.hosts}
        if any(origin.lower() not in own for origin in origins):
            return 403, "This request comes from another site, which may not use this page."
        if header(scope, b"sec-fetch-site") == ["cross-site"] and not _is_visit(scope):
            return 403, "This request comes from another site, which may not use this page."
        if scope["method"] not in SAFE and not origins and not self.door.has_token(scope):
            return 403, "Expected the header Origin, as browsers send it, or the token as Bearer."
        inner = scope["path"].removeprefix("/gradio_api")
        if inner.startswith(CLOSED) or _is_foreign(inner):
            return 404, "There is nothing here."
        return None

    def _limit(self, path: str) -> int:
        return self.upload if path.rstrip("/").endswith("/upload") else self.limit

    def _cookie(self, scope: Scope) -> str | None:
        for text in header(scope, b"cookie"):
            try:
                found = SimpleCookie(text).get(self.door.cookie)
            except CookieError:
                continue
            if found is not None:
                return found.value
        return None


def _is_foreign(path: str) -> bool:
    """Whether a file is asked for that lies elsewhere: Gradio would fetch it."""
    return bool(re.match(r"/file[=/]+[a-z][a-z0-9+.-]*:", path, re.IGNORECASE))


def header(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header of the request."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


async def answer(
    send: Send, status: int, text: str, *, kind: str = "text/plain", more: Any = ()
) -> None:
    """A whole response."""
    body = text.encode()
    headers = [(b"content-type", f"{kind}; charset=utf-8".encode()), *more]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_visit(scope: Scope) -> bool:
    """Whether someone follows a link to the page: that may come from anywhere."""
    return scope["method"] == "GET" and header(scope, b"sec-fetch-mode") == ["navigate"]


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(k.lower(), v) for k, v in message.get("headers", ())]
            there = {name for name, _ in headers}
            headers += [(k, v) for k, v in HEADERS.items() if k not in there]
            if b"content-security-policy" not in there:
                # For what is no document of ours: files that a browser opens by themselves.
                headers.append((b"content-security-policy", b"default-src 'none'; sandbox"))
            message = {**message, "headers": headers}
        await send(message)

    return sent


class _Nonced:
    """Gives a document its policy, and each of its scripts the nonce of this response."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.start: Message | None = None
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if headers.get(b"content-type", b"").startswith(b"text/html"):
                self.start = message
                return
        elif self.start is not None and message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if message.get("more_body"):
                return
            await self._document()
            return
        await self.send(message)

    async def _document(self) -> None:
        assert self.start is not None
        nonce = secrets.token_urlsafe(18)
        body = SCRIPT.sub(f'<script nonce="{nonce}"'.encode(), self.body)
        drop = (b"content-length", b"cache-control")
        headers = [(k, v) for k, v in self.start["headers"] if k.lower() not in drop]
        headers += [
            (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"),
            (b"content-security-policy", POLICY.format(nonce=nonce).encode()),
        ]  # fmt: skip
        await self.send({**self.start, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class _Counted:
    """The request's body, up to a limit, whatever its header says about its length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.receive = receive
        self.limit = limit
        self.seen = 0
        self.told = f"More than {limit:,} bytes. Send less at once."

    def declared_too_large(self, scope: Scope) -> bool:
        """Whether the header already says more, or nothing that is a length."""
        lengths = header(scope, b"content-length")
        return any(not own.isdecimal() or int(own) > self.limit for own in lengths)

    async def __call__(self) -> Message:
        message = await self.receive()
        self.seen += len(message.get("body", b""))
        if self.seen > self.limit:
            raise HTTPException(413, self.told)  # which the app inside answers
        return message
