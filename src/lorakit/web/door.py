"""Who may come in: whoever has the address with its token, or a name and a password."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from lorakit.core.errors import LorakitError

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>lorakit</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 32rem; margin: 15vh auto; padding: 0 1rem;
color-scheme: light dark }} input, button {{ font: inherit; padding: .4rem .6rem; width: 100%;
box-sizing: border-box; margin: .2rem 0 1rem }} code {{ user-select: all }}</style>
<h1>lorakit</h1>{body}</html>"""
FORM = """<form method="post" action="/login"><label>Name <input name="name" autocomplete="username"
required autofocus></label><label>Password <input name="password" type="password"
autocomplete="current-password" required></label><button>Come in</button></form>{told}"""
CLOSED = """<p>This page needs its token. Open the address that <code>lorakit ui</code> printed
where it was started; it ends in <code>?token=…</code>.</p>"""
LASTS = 30 * 24 * 3600  # seconds of a cookie
STYLE = b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"


class Door:
    """Lets in by the token in the address (then by a cookie), or by `users`: name to password.

    `secret` outlives the process, so that a page that is open goes on after a restart. `address`
    is where the page is.
    """

    def __init__(
        self, secret: bytes, address: str, *, users: Mapping[str, str] | None = None,
        pause: float = 1.0,
    ) -> None:  # fmt: skip
        self.secret = secret
        self.address = address
        self.users = dict(users or {})
        self.pause = pause
        self.token = self._signed("token")
        # Ports share their cookies: the name keeps pages on two of them apart.
        self.cookie = f"lorakit_{hashlib.sha256(address.encode()).hexdigest()[:8]}"
        self._one = asyncio.Lock()

    @property
    def link(self) -> str:
        """What to open: with the token, unless people log in."""
        return self.address if self.users else f"{self.address}?token={self.token}"

    def has_token(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a program asks with the token in its header."""
        said = [v for k, v in scope["headers"] if k == b"authorization"]
        return not self.users and len(said) == 1 and _same(said[0], f"Bearer {self.token}".encode())

    def user(self, cookie: str | None) -> str | None:
        """Whose cookie this is, or None; without users there is one, called "me"."""
        name, _, signature = (cookie or "").rpartition(".")
        name, _, until = name.rpartition(".")
        known = name in self.users if self.users else name == "me"
        good = known and _same(signature.encode(), self._pass(name, until).encode())
        return name if good and until.isdecimal() and time.time() < int(until) else None

    def _pass(self, name: str, until: str) -> str:
        """What proves a cookie: of this page, of this user, and of the password as it is now."""
        return self._signed(f"user {name} {self.users.get(name)} {self.address} {until}")

    async def answers(
        self, scope: MutableMapping[str, Any], receive: Any, send: Any, cookie: str | None
    ) -> bool:
        """Let the request through (False), or answer it: the way in, or that there is none."""
        if scope["path"] == "/" and scope["method"] == "GET" and not self.users:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
            if given is not None:
                good = len(given) == 1 and _same(given[0].encode(), self.token.encode())
                await (self._enter(send, "me") if good else self._shut(send, scope))
                return True
        if self.user(cookie) is not None or self.has_token(scope):
            return False
        if self.users and scope["path"] == "/login" and scope["method"] == "POST":
            await self._login(receive, send)
            return True
        await self._shut(send, scope)
        return True

    async def _login(self, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body") or len(body) > 4096:
                break
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=4)
        except ValueError:  # more fields than a form has
            fields = {}
        name, password = (fields.get(key, [""])[0] for key in ("name", "password"))
        expected = self.users.get(name, secrets.token_hex())
        async with self._one:  # one guess at a time, and a second for each that is wrong
            good = _same(password.encode(), expected.encode())
            if not good:
                await asyncio.sleep(self.pause)
        if good:
            await self._enter(send, name)
            return
        told = "<p role=alert>This name and password do not go together.</p>"
        await _html(send, 401, FORM.format(told=told))

    async def _enter(self, send: Any, name: str) -> None:
        until = str(int(time.time()) + LASTS)
        value = f"{name}.{until}.{self._pass(name, until)}"
        cookie = f"{self.cookie}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={LASTS}"
        # A page and not a redirect: a strict cookie is not sent on what another site's link began.
        body = '<meta http-equiv="refresh" content="0;url=/"><p><a href="/">Go on</a></p>'
        await _html(send, 200, body, [(b"set-cookie", cookie.encode())])

    async def _shut(self, send: Any, scope: MutableMapping[str, Any]) -> None:
        status = 200 if self.users and scope["path"] == "/" else 401
        await _html(send, status, FORM.format(told="") if self.users else CLOSED)

    def _signed(self, text: str) -> str:
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()


def users_of(given: list[str]) -> dict[str, str]:
    """Names and passwords of `NAME:PASSWORD`, or `LorakitError`."""
    found: dict[str, str] = {}
    for own in given:
        name, colon, password = own.partition(":")
        if not (colon and name.isidentifier() and len(password) >= 8) or name in found:
            raise LorakitError(
                f"--auth {name}:... is no user; expected NAME:PASSWORD, the name of letters and "
                "digits, each once, the password of at least 8 characters."
            )
        found[name] = password
    return found


def kept_secret(file: Path) -> bytes:
    """The secret in a file that only its user can read; made at first use."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        made = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):  # another process was first: its secret counts
            os.link(made, file)
        made.unlink()
    kept = file.read_bytes()
    if len(kept) != 32:
        raise LorakitError(f"{file} is no secret of 32 bytes. Delete it, and start again.")
    return kept


async def _html(
    send: Callable[[Any], Awaitable[None]], status: int, body: str, more: Any = ()
) -> None:
    text = PAGE.format(body=body).encode()
    headers = [
        (b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store"),
        (b"content-length", str(len(text)).encode()), (b"content-security-policy", STYLE), *more,
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _same(one: bytes, two: bytes) -> bool:
    return hmac.compare_digest(one, two)
