"""What programs may ask a page: its library, its runs, and an adapter.

    from gradio_client import Client
    page = Client("http://127.0.0.1:7860/", headers={"authorization": "Bearer TOKEN"})
    page.predict("lighthouse", api_name="/search")

The token is the one in the link that `lorakit ui` prints. Everything else that the page does is for
its own components; programs have the same as functions of the library and as commands.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from lorakit.core.errors import LorakitError
from lorakit.eval.generate import Decoding
from lorakit.web.ask import Question, answers
from lorakit.web.page import Page
from lorakit.web.voices import Asked

MOST = 200  # entries of an answer


def offer(page: Page) -> None:
    """Give the page its endpoints `/search`, `/runs` and `/answer`."""

    def search(words: str = "") -> list[dict[str, Any]]:
        """The adapters with all of these words, the newest first, as `lorakit library` has them."""
        page.library.refresh()
        found = [own.as_dict() for own in _said(page.library.search, words, limit=MOST)]
        # A value with a `path` is a file to fetch for Gradio's client.
        return [{"where": own.pop("path"), **own} for own in found]

    def runs() -> list[dict[str, Any]]:
        """The jobs of the queue, the newest first, as `lorakit queue --json` has them."""
        return [own.told() for own in page.queue.jobs()[:MOST]]

    def answer(text: str, adapter: str, strength: float = 1.0, longest: int = 96) -> dict[str, str]:
        """What the base and an adapter (by id, name or path) answer to a text."""

        def work() -> dict[str, str]:
            page.library.refresh()
            asked = Asked(page.library.pick(adapter).place, float(strength))
            question = Question(text, [asked], decoding=Decoding(longest))
            *_, found = answers(page.voices, question, {})
            return {own.label: own.text for own in found}

        return _said(work)

    for handler in (search, runs, answer):
        gr.api(handler, api_name=handler.__name__)


def _said(work: Any, *given: Any, **named: Any) -> Any:
    """The answer, or an error with its message: Gradio keeps that of any other to itself."""
    try:
        return work(*given, **named)
    except LorakitError as error:
        raise gr.Error(str(error)) from error
