"""The page answers to its own user's browser alone."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.testclient import TestClient

from lorakit.core.errors import LorakitError
from lorakit.web.door import Door, kept_secret, users_of
from lorakit.web.guard import Guard

HOME = "http://127.0.0.1:7860"
OWN = {"origin": HOME}


def made(**options) -> tuple[TestClient, Door]:
    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @inner.get("/")
    def home() -> HTMLResponse:
        return HTMLResponse("<html><script>1</script><script src='/a.js'></script></html>")

    @inner.get("/plain")
    def plain() -> PlainTextResponse:
        return PlainTextResponse("<script>")

    @inner.get("/file.html")
    def file() -> HTMLResponse:
        return HTMLResponse("<script>1</script>")

    @inner.post("/do")
    @inner.post("/upload")
    async def do(request: Request) -> int:
        return len(await request.body())

    door = Door(bytes(32), HOME, pause=0.0, **options)
    guard = Guard(
        inner, door=door, hosts=frozenset({"127.0.0.1:7860", "localhost:7860"}), limit=100,
        upload=1000,
    )  # fmt: skip
    return TestClient(guard, base_url=HOME, follow_redirects=False), door


def inside(**options) -> TestClient:
    client, door = made(**options)
    assert client.get(door.link).status_code == 200
    return client


def test_the_token_opens_the_page_and_a_cookie_keeps_it_open():
    client, door = made()
    shut = client.get("/")
    assert shut.status_code == 401
    assert "lorakit ui" in shut.text
    assert client.get("/?token=wrong").status_code == 401
    let_in = client.get(door.link)
    cookie = let_in.headers["set-cookie"]
    assert let_in.status_code == 200
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert door.token not in let_in.text
    assert client.get("/").status_code == 200
    assert client.post("/do", content=b"abc", headers=OWN).json() == 3


def test_a_cookie_made_up_is_none():
    client, door = made()
    for value in ("me.", "me.x", ".", "", "me." + "0" * 64, "you." + door._signed("user you")):
        client.cookies.set(door.cookie, value)
        assert client.get("/").status_code == 401, value


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:7860.evil.example", "127.0.0.1", ""])
def test_foreign_hosts(host):
    client = inside()
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("headers", [
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:7861"},
    {"origin": "http://127.0.0.1:7860.evil.example"}, {"sec-fetch-site": "cross-site"}, {},
])  # fmt: skip
def test_foreign_origins(headers):
    client = inside()
    assert client.post("/do", content=b"", headers=headers).status_code == 403


def test_a_link_from_elsewhere_may_lead_here_but_nothing_is_fetched_from_there():
    client = inside()
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=visit).status_code == 200
    assert client.get("/plain", headers={**visit, "sec-fetch-mode": "no-cors"}).status_code == 403


def test_programs_use_the_token_as_bearer():
    client, door = made()
    own = {"authorization": f"Bearer {door.token}"}
    assert client.post("/do", content=b"ab", headers=own).json() == 2
    assert client.post("/do", headers={"authorization": "Bearer x"}).status_code == 403


@pytest.mark.parametrize("path", [
    "/gradio_api/proxy=http://evil.example", "/proxy=x", "/monitoring", "/gradio_api/mcp/sse",
])  # fmt: skip
def test_what_no_part_of_the_page_uses_is_closed(path):
    assert inside().get(path).status_code == 404


def test_bodies_are_counted_whatever_they_say():
    client = inside()
    assert client.post("/do", content=b"x" * 101, headers=OWN).status_code == 413
    assert client.post("/upload", content=b"x" * 101, headers=OWN).json() == 101
    assert client.post("/upload", content=b"x" * 1001, headers=OWN).status_code == 413
    parts = (b"x" * 60 for _ in range(3))  # no length in the header
    assert client.post("/do", content=parts, headers=OWN).status_code == 413
    for length in ("-1", "1e3", "many"):
        headers = {**OWN, "content-length": length}
        assert client.post("/do", content=b"x", headers=headers).status_code == 413


def test_scripts_of_the_page_and_no_others():
    client = inside()
    home = client.get("/", headers={"accept-encoding": "gzip, br"})
    nonces = re.findall('<script nonce="([^"]+)"', home.text)
    policy = home.headers["content-security-policy"]
    assert len(nonces) == 2
    assert set(nonces) == set(re.findall("'nonce-([^']+)'", policy))
    assert "script-src 'self' 'unsafe-eval' 'nonce-" in policy
    assert "frame-ancestors 'none'" in policy
    again = client.get("/")
    assert nonces[0] not in again.text
    assert home.headers["x-content-type-options"] == "nosniff"
    assert home.headers["x-frame-options"] == "DENY"
    other = client.get("/file.html")
    assert other.text == "<script>1</script>", "a file that is served is no document of the page"
    assert "script-src" not in other.headers["content-security-policy"]
    assert "sandbox" in other.headers["content-security-policy"]
    plain = client.get("/plain")
    assert plain.text == "<script>"
    assert "sandbox" in plain.headers["content-security-policy"]


def test_several_people_log_in():
    client, door = made(users={"ann": "correct horse", "bob": "battery staple"})
    assert door.link == HOME
    assert "password" in client.get("/").text
    for name, password in (("ann", "battery staple"), ("eve", "x"), ("ann", "")):
        form = {"name": name, "password": password}
        assert client.post("/login", data=form, headers=OWN).status_code == 401
    assert client.post("/do", headers=OWN).status_code == 401
    good = {"name": "ann", "password": "correct horse"}
    assert client.post("/login", data=good).status_code == 403, "without Origin"
    assert client.post("/login", data=good, headers=OWN).status_code == 200
    assert client.post("/do", content=b"abc", headers=OWN).json() == 3
    assert client.get(f"/?token={door.token}").status_code == 200  # not looked at
    bearer = {"authorization": f"Bearer {door.token}"}
    client.cookies.clear()
    assert client.post("/do", headers={**bearer, **OWN}).status_code == 401


def test_one_users_cookie_is_not_another_ones():
    _, door = made(users={"ann": "correct horse", "bob": "battery staple"})
    later, past = str(int(time.time()) + 100), str(int(time.time()) - 100)
    mine = f"ann.{later}.{door._pass('ann', later)}"
    assert door.user(mine) == "ann"
    assert door.user(mine.replace("ann", "bob")) is None
    assert door.user(f"me.{later}.{door._pass('me', later)}") is None
    assert door.user(f"ann.{past}.{door._pass('ann', past)}") is None
    assert door.user(mine.replace(later, str(int(later) + 1))) is None
    _, other = made(users={"ann": "another password"})
    assert other.user(mine) is None  # whoever changes a password closes what was open


def test_guesses_go_one_after_the_other():
    """While wrong ones wait, a right one is not told apart at once."""
    _, door = made(users={"ann": "correct horse"})
    door.pause = 0.2

    async def guess(password: str) -> tuple[int, float]:
        sent = []

        async def receive():
            return {"body": f"name=ann&password={password}".encode()}

        async def send(message):
            sent.append(message)

        began = time.perf_counter()
        await door._login(receive, send)
        return sent[0]["status"], time.perf_counter() - began

    async def all_at_once():
        return await asyncio.gather(*(guess(p) for p in ("wrong", "worse", "correct+horse")))

    *wrong, (status, waited) = asyncio.run(all_at_once())
    assert [code for code, _ in wrong] == [401, 401]
    assert status == 200
    assert waited > 0.3


def test_a_form_with_many_fields_is_no_way_in():
    client, _ = made(users={"ann": "correct horse"})
    form = {**{f"f{n}": "x" for n in range(9)}, "name": "ann", "password": "correct horse"}
    assert client.post("/login", data=form, headers=OWN).status_code == 401


@pytest.mark.parametrize("path", [
    "/gradio_api/file=https://example.org/a", "/gradio_api/file=HTTP:/example.org",
    "/file=ftp://example.org", "/gradio_api/dev/reload", "/gradio_api/openapi.json",
    "/gradio_api/vibe-edit",
])  # fmt: skip
def test_nothing_is_fetched_from_elsewhere(path):
    client, door = made()
    client.get(f"/?token={door.token}")
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("given", ["ann", "ann:short", "a b:long enough", ":long enough", ""])
def test_odd_users(given):
    with pytest.raises(LorakitError, match="NAME:PASSWORD"):
        users_of([given])
    assert users_of(["ann:pass:word!"]) == {"ann": "pass:word!"}


def test_the_secret_outlives_the_process_and_is_its_users_alone(tmp_path):
    file = tmp_path / "state" / "secret"
    one = kept_secret(file)
    assert kept_secret(file) == one
    assert file.stat().st_mode & 0o077 == 0
    assert [own.name for own in file.parent.iterdir()] == ["secret"]
    file.write_bytes(b"short")
    with pytest.raises(LorakitError, match="Delete it"):
        kept_secret(file)
