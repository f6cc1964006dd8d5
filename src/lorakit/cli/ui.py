"""`lorakit ui`."""

from __future__ import annotations

import sys

import typer


def command(
    folder: str = typer.Argument(
        ".", help="Where the page keeps runs, data and adapters, and looks for bases."
    ),
    root: list[str] = typer.Option(
        None, "--root", help="Another folder with bases, data or adapters; repeat."
    ),
    host: str = typer.Option("127.0.0.1", "--host", help="Others than this machine need --auth."),
    port: int = typer.Option(7860, "--port", min=0, max=65535, help="0 takes a free one."),
    auth: list[str] = typer.Option(
        None, "--auth", metavar="NAME:PASSWORD", help="A user who logs in; repeat."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the address as JSON."),
) -> None:
    """Open the page: train, look through, try, blend and learn, in the browser.

    Prints the address that opens it. What is trained goes on when the page is closed.

    Example: `lorakit ui my-adapters --root ~/models`
    """
    from lorakit.web.door import users_of
    from lorakit.web.place import Place

    users = users_of(auth or [])
    place = Place.of(folder, root or [])

    from lorakit.cli.output import show
    from lorakit.web.app import serve

    def told(link: str) -> None:
        show(f"open {link}", {"link": link}, as_json=as_json)
        sys.stdout.flush()

    serve(place, host=host, port=port, users=users, told=told)
