"""What the demo found, as text for the terminal and as one HTML file without any reference."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorakit.study.page import image, page


@dataclass(frozen=True)
class Example:
    """One held-out row: what the base writes, what the adapter writes, and a reference."""

    prompt: str
    before: str
    after: str
    reference: str


@dataclass(frozen=True)
class Report:
    """The demo's figures. Accuracies are (share of attributes, share of rows with all right)."""

    folder: Path
    program: str
    before: tuple[float, float]
    after: tuple[float, float]
    examples: list[Example]
    parameters: int
    base_parameters: int
    adapter_bytes: int
    base_bytes: int
    training_seconds: float
    seconds: float
    merge_error: float
    largest_logit: float
    restored: bool

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {**asdict(self), "folder": str(self.folder), "adapter": str(self.adapter)}

    @property
    def adapter(self) -> Path:
        """The folder to load, share and serve."""
        return self.folder / "run" / "adapter"

    def facts(self) -> list[tuple[str, str]]:
        """The figures, each with what it is of."""
        share = self.parameters / self.base_parameters
        restored = "every bit as before" if self.restored else "NOT restored: this is a defect"
        return [
            ("attributes right, base", f"{self.before[0]:.1%}"),
            ("attributes right, adapter", f"{self.after[0]:.1%} (whole rows {self.after[1]:.0%})"),
            (
                "parameters",
                f"{self.parameters:,} trained, {share:.1%} of the base's {self.base_parameters:,}",
            ),
            (
                "on disk",
                f"adapter {self.adapter_bytes / 1e6:.2f} MB, base {self.base_bytes / 1e6:.2f} MB",
            ),
            (
                "merged against unmerged",
                f"logits within {self.merge_error:.1e}, the largest being {self.largest_logit:.0f}",
            ),
            ("unmerged again", restored),
            ("time", f"training {self.training_seconds:.0f} s, all {self.seconds:.0f} s on CPU"),
        ]

    def commands(self) -> list[str]:
        """What to try next."""
        prompt = self.examples[0].prompt
        return [
            f'{self.program} generate --adapter {self.adapter} --with-base "{prompt}"',
            f"{self.program} inspect {self.adapter} --layers",
            f"{self.program} merge --adapter {self.adapter} --out {self.folder / 'merged'}",
            f"{self.program} train {self.folder / 'recipe.yaml'} --lora.rank 4 --output "
            f"{self.folder / 'rank4'}",
        ]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.facts())
        lines = [""]
        for example in self.examples[:3]:
            lines += [
                f"> {example.prompt}",
                f"  base     {_short(example.before)}",
                f"  adapter  {example.after}",
                "",
            ]
        lines += [f"{name:<{width}}  {value}" for name, value in self.facts()]
        lines += ["", f"report: {self.folder / 'report.html'}", "try next:"]
        lines += [f"  {command}" for command in self.commands()]
        return "\n".join(lines)


def write_report(report: Report, file: Path, *, loss: Path) -> None:
    """Write the HTML file, the loss curve inside of it."""
    picture = image(loss.read_bytes(), "png", "The loss in training and evaluation, by step")
    facts = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in report.facts()
    )
    commands = "\n".join(html.escape(command) for command in report.commands())
    body = _BODY.format(
        before=f"{report.before[0]:.0%}",
        after=f"{report.after[0]:.0%}",
        examples="".join(_example(example) for example in report.examples),
        facts=facts,
        picture=picture,
        commands=commands,
    )
    file.write_text(page("lorakit demo", body, _STYLE), encoding="utf-8")


def _example(example: Example) -> str:
    parts = [part.strip() for part in example.prompt.split(";")]
    slots = "".join(f"<span>{html.escape(part)}</span>" for part in parts)
    after = html.escape(example.after)
    for part in parts:
        value = html.escape(part.partition(":")[2].strip())
        after = _marked(after, value)
    return (
        f'<article><p class="slots">{slots}</p>'
        f'<p class="base"><b>base</b> {html.escape(_short(example.before))}</p>'
        f'<p class="adapter"><b>adapter</b> {after}</p></article>'
    )


def _marked(text: str, value: str) -> str:
    """The text with the first place marked where the value stands outside of a mark."""
    at = text.lower().find(value.lower())
    if not value or at < 0 or text[:at].count("<mark>") != text[:at].count("</mark>"):
        return text
    return f"{text[:at]}<mark>{text[at : at + len(value)]}</mark>{text[at + len(value) :]}"


def _short(text: str, length: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "\u2026"


_STYLE = """
  .figures { display: flex; gap: 1rem; flex-wrap: wrap; }
  .figures div { flex: 1 1 12rem; background: var(--soft); border-radius: .6rem;
                 padding: .8rem 1.1rem; }
  .figures b { display: block; font-size: 2rem; line-height: 1.2; }
  article { border-top: 1px solid var(--line); padding: .6rem 0; }
  article p { margin: .35rem 0; }
  .slots span { display: inline-block; background: var(--soft); border-radius: .4rem;
                padding: .05rem .5rem; margin: 0 .3rem .3rem 0; font-size: .85rem; }
  .base { opacity: .65; }
  article b { display: inline-block; width: 4.6rem; font-size: .8rem; }
  mark { background: #2f6fd02e; color: inherit; border-radius: .2rem; }
  th { width: 15rem; }
"""

_BODY = """<h1>lorakit demo</h1>
<p>A tiny Llama that was trained on stories has never seen a line of attributes. It learned to
describe one in a sentence or two. Its weights never changed: a LoRA adapter was trained beside
them. The rows below were held out: their combinations and names appear in none of the adapter's
training rows.</p>
<div class="figures">
  <div><b>{before}</b>of the attributes in what the base writes</div>
  <div><b>{after}</b>with the adapter</div>
</div>
<h2>Before and after</h2>
{examples}
<h2>Figures</h2>
<table>{facts}</table>
<h2>Training</h2>
{picture}
<h2>Try next</h2>
<pre>{commands}</pre>"""
