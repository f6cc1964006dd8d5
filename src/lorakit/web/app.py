"""The page as an application: Gradio behind the guard, on one address of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorakit.core.errors import LorakitError, MissingExtraError
from lorakit.web.door import Door, kept_secret
from lorakit.web.guard import Guard
from lorakit.web.place import Place

LIMIT = 16_000_000  # bytes of a request
UPLOAD = 4_000_000_000  # bytes of an uploaded file
GRACE = 1  # seconds that open pages get when the page is ended; their streams never end
LISTEN = 0.02  # seconds between two looks of Gradio's queue for events
STYLE = Path(__file__).with_name("style.css")


def make_app(place: Place, *, door: Door, hosts: frozenset[str]) -> Guard:
    """The guarded application for the folders of a place; `hosts` are its own names."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as error:
        raise MissingExtraError("The page needs Gradio: pip install 'lorakit[ui]'.") from error

    from lorakit.web.layout import build
    from lorakit.web.news import add_news
    from lorakit.web.reports import add_reports

    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    blocks, page = build(place)
    add_reports(inner, page)
    add_news(inner, page)
    mounted: Any = gr.mount_gradio_app(
        inner, blocks, path="/", footer_links=[], show_error=False,
        max_file_size=UPLOAD, theme=_theme(), css_paths=[STYLE],
        blocked_paths=[str(place.runs / ".queue")], enable_monitoring=False, pwa=False,
        ssr_mode=False, mcp_server=False, run_history=False,
    )  # fmt: skip
    # Else Gradio takes any path of this machine for an upload: it looks once it was launched.
    blocks.has_launched = True
    # A thousand looks a second, as it has them, take 5 % of a core from what trains beside it.
    blocks._queue.sleep_when_free = LISTEN
    blocks._queue.progress_update_sleep_when_free = 1.0  # its own bars, of which we have none
    return Guard(mounted, door=door, hosts=hosts, limit=LIMIT, upload=UPLOAD)


def serve(
    place: Place, *, host: str = "127.0.0.1", port: int = 7860,
    users: Mapping[str, str] | None = None, state: Path | None = None, told: Any = print,
) -> None:  # fmt: skip
    """Serve the page until it is stopped; `told` gets the address that opens it. Port 0 is any.

    Beyond this machine only with `users`: raises `LorakitError` without.
    """
    import socket

    host = host.lower()
    if host not in ("127.0.0.1", "localhost", "::1") and not users:
        raise LorakitError(
            f"--host {host} lets other machines in. Pass --auth NAME:PASSWORD as well, or leave "
            "--host out."
        )
    if host in ("", "0.0.0.0", "::"):
        raise LorakitError(
            f"--host {host or repr(host)} is every address of this machine; expected the one that "
            "browsers open, so that no other site's name leads here. Name that address."
        )
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            port = probe.getsockname()[1]
        except OSError as error:
            raise LorakitError(
                f"{host}:{port} cannot be used ({error.strerror}). Is the page open already? Take "
                "another with --port."
            ) from error
    import uvicorn

    names = {host, "127.0.0.1", "localhost"} if host in ("127.0.0.1", "localhost") else {host}
    shown = {f"[{own}]" if ":" in own else own for own in names}
    hosts = frozenset(f"{own}:{port}" for own in shown) | (shown if port == 80 else set())
    secret = kept_secret((state or _state()) / "ui-secret")
    address = f"[{host}]" if ":" in host else host
    door = Door(secret, f"http://{address}:{port}/", users=users)
    app = make_app(place, door=door, hosts=hosts)
    _warm(place)
    told(door.link)
    uvicorn.run(
        app, host=host, port=port, log_level="warning", server_header=False, ws="none",
        timeout_graceful_shutdown=GRACE,
    )  # fmt: skip


def _warm(place: Place) -> None:
    """Work out once what a first visitor would wait for: the index, and the form's estimate."""
    from lorakit.library.index import Library
    from lorakit.train.recipe import make_recipe
    from lorakit.web.choices import Choices
    from lorakit.web.estimate import estimate
    from lorakit.web.told import caught

    with Library(place.roots) as library, caught():  # what is wrong, the page says in its place
        library.refresh()
        estimate(make_recipe(Choices(place).stories()))


def _state() -> Path:
    """Where a user's programs keep what outlives them (the XDG base directories)."""
    said = os.environ.get("XDG_STATE_HOME")
    return (Path(said) if said else Path.home() / ".local" / "state") / "lorakit"


def _theme() -> Any:
    import gradio as gr

    # Fonts of the system: others would be fetched from elsewhere.
    return gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )  # fmt: skip
