"""The page: its tabs, one file each."""

from __future__ import annotations

import gradio as gr

from lorakit.web import blend, learn, shelf, train, trying
from lorakit.web.api import offer
from lorakit.web.page import Page
from lorakit.web.place import Place

TABS = {
    "library": ("Library", shelf.tab), "train": ("Train", train.tab), "try": ("Try", trying.tab),
    "blend": ("Blend", blend.tab), "learn": ("Learn", learn.tab),
}  # fmt: skip


def build(place: Place) -> tuple[gr.Blocks, Page]:
    """Every tab, laid out and wired, and what they share."""
    with gr.Blocks(title="lorakit", analytics_enabled=False, fill_width=False) as blocks:
        page = Page(place, blocks)
        gr.Markdown("# lorakit", elem_id="top")
        with gr.Tabs(elem_id="tabs"):
            for name, (title, lay_out) in TABS.items():
                with gr.Tab(title, id=name) as page.tabs[name]:
                    lay_out(page)
        offer(page)
    return blocks, page
