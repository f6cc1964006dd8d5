"""A web page in one file: no request leaves it, and dark rooms and narrow screens can read it."""

from __future__ import annotations

import base64
import html

# Colours come from the reader's own light or dark; pictures keep a white ground.
STYLE = """
  :root { color-scheme: light dark; --line: #8884; --soft: #8881; --blue: #2f6fd0; }
  body { font: 16px/1.55 system-ui, sans-serif; max-width: 54rem; margin: 2.5rem auto;
         padding: 0 1.25rem; overflow-wrap: break-word; }
  h1 { font-size: 1.7rem; margin-bottom: .2rem; line-height: 1.25; }
  h2 { font-size: 1.15rem; margin-top: 2.2rem; }
  table { border-collapse: collapse; width: 100%; }
  th, td { text-align: left; padding: .35rem .5rem; border-top: 1px solid var(--line);
           vertical-align: top; font-weight: normal; }
  th { opacity: .7; }
  img { max-width: 100%; background: #fff; border-radius: .5rem; }
  pre { background: var(--soft); padding: .8rem 1rem; border-radius: .6rem; overflow-x: auto;
        font-size: .85rem; }
"""


def page(title: str, body: str, style: str = "") -> str:
    """The whole page around a body that is HTML already; the title is escaped here."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}{style}</style>\n{body}\n</html>\n"
    )


def image(content: bytes, kind: str, about: str) -> str:
    """A picture inside the page; `kind` is "png" or "svg+xml", `about` is for who cannot see it."""
    data = base64.b64encode(content).decode()
    return f'<img alt="{html.escape(about)}" src="data:image/{kind};base64,{data}">'
