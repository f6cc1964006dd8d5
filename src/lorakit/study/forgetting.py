"""Forgetting: what the base could do before, as an adapter is turned up (LoRA as a dial).

Where no text of the base's own is named, the base writes some, and what is measured is how far the
tuned model's next tokens are from the base's there: KL(base || tuned), zero at strength zero.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorakit.core.activate import use
from lorakit.core.errors import LorakitError, RecipeError
from lorakit.core.inject import remove
from lorakit.core.strength import set_strength
from lorakit.eval.score import evaluate_rows
from lorakit.formats.load import load
from lorakit.models.load import load_base, load_tokenizer
from lorakit.study.figures import Axis, Picture, Series, lines
from lorakit.study.kinds import Cell, Figures, Record, Setting, Shown
from lorakit.study.measure import once
from lorakit.study.runs import SEED, Runs, recipe_of
from lorakit.study.statistics import Interval, interval
from lorakit.study.table import Column, Table
from lorakit.study.train import Trained, train_cells
from lorakit.tasks import make_task
from lorakit.train.recipe import Recipe
from lorakit.train.source import Source

FULL = "full"
NAME = "studied"


class Forgetting(Runs):
    """Adapters at several strengths: the task they learned, and the base's own language."""

    name = "forgetting"
    title = "Forgetting: the task gained and the base lost, by the adapter's strength"
    why = (
        "How much of the base does an adapter cost, does a smaller rank cost less, and is there a "
        'strength below one that keeps most of both ("LoRA Learns Less and Forgets Less", Biderman '
        "et al. 2024)?"
    )
    grows = ("ranks", "strengths", "seeds")

    def options(self, *, quick: bool) -> dict[str, Any]:
        """`ranks` of LoRA beside full fine-tuning; the base writes `texts` of `tokens` each."""
        return {
            "ranks": [8] if quick else [1, 8, 64],
            "strengths": [0.0, 0.5, 1.0] if quick else [0.0, 0.25, 0.5, 0.75, 1.0, 1.25],
            "seeds": [0] if quick else [0, 1], "texts": 16 if quick else 64,
            "tokens": 32 if quick else 64,
        }  # fmt: skip

    def settings(self, setting: Setting) -> list[dict[str, Any]]:
        """Every way at every strength."""
        recipe = recipe_of(setting)
        task = make_task(recipe.task, recipe.data)
        if task.kind != "causal":
            raise RecipeError(
                "This study is of causal language models: their text is what is lost."
            )
        ways = [FULL, *(f"rank {rank}" for rank in setting.option("ranks"))]
        return [{"way": w, "strength": s} for w in ways for s in setting.option("strengths")]

    def group(self, cell: Cell) -> Hashable:
        """The strengths of one trained adapter."""
        return (cell.settings["way"], cell.settings[SEED])

    def overrides(self, settings: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
        """The method and its rank; full fine-tuning takes a tenth of LoRA's rate."""
        if settings["way"] != FULL:
            return {"lora.rank": int(settings["way"].removeprefix("rank "))}
        # Schulman et al. 2025: LoRA's best rate is about ten times that of full fine-tuning.
        return {"method": FULL, "lora": {}, "train.lr": recipe_of(setting).train.lr / 10}

    def measure(
        self, cells: Sequence[Cell], setting: Setting, folder: Path
    ) -> Iterator[Figures | LorakitError]:
        """Train once, then ask the adapter at every strength."""
        recipe, first = recipe_of(setting), cells[0].settings
        chosen = {
            **once(recipe), **self.overrides(first, setting), "train.seed": first[SEED],
        }  # fmt: skip
        own = train_cells(recipe, [chosen], folder, quiet=setting.quiet)[0]
        if isinstance(own, LorakitError):
            yield from [own] * len(cells)
            return
        asked = _Asked(recipe, setting)
        for cell in cells:
            yield asked.at(own, cell.settings["strength"])

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """Both losses at strength one, and over the strength."""
        cells: dict[tuple[str, float], list[Record]] = {}
        for own in records:
            cells.setdefault((own.settings["way"], own.settings["strength"]), []).append(own)
        ways = list(dict.fromkeys(way for way, _ in cells))
        strengths = sorted({strength for _, strength in cells})
        columns = [
            Column("way"), Column("strength"),
            Column("loss of the task", "nats per token", best="low"),
            Column("distance from the base", "nats per token", best="low"),
        ]  # fmt: skip
        rows = [
            [way, f"{strength:g}", _mean(own, "task"), _mean(own, "drift")]
            for (way, strength), own in cells.items()
        ]
        notes = [
            "Distance: KL(base || tuned) of the next token, over texts that the base wrote itself "
            "(sampled, one seed). Strength multiplies the whole change of the weights. Means over "
            f"{len(next(iter(cells.values())))} seeds, 95 % intervals (Student's t).",
        ]
        table = Table("forgetting", "Task and base, by strength", columns, rows, notes, sections=0)
        pictures = [
            _curves(cells, ways, strengths, "task", "loss of the task (nats per token)"),
            _curves(cells, ways, strengths, "drift", "distance from the base (nats per token)"),
        ]
        return Shown(_findings(cells, ways), [table], pictures)


class _Asked:
    """The base with its own texts and the task's rows, asked with an adapter at some strength."""

    def __init__(self, recipe: Recipe, setting: Setting) -> None:
        source = Source()
        rows = source.rows(recipe)
        self.tokenizer = load_tokenizer(recipe.model, recipe.data.end)
        self.task, self.batch = rows.task, recipe.train.eval_batch_size or 32
        self.rows = source.encoded(recipe, rows, self.tokenizer)[1]
        self.model = load_base(recipe.model, rows.task.kind, precision=recipe.train.precision).model
        self.model.eval()
        self.texts = own_texts(
            self.model, self.tokenizer, setting.option("texts"), setting.option("tokens")
        )
        self.base = _next_tokens(self.model, self.texts)

    def at(self, own: Trained, strength: float) -> Figures:
        """The task's loss and the distance from the base."""
        load(self.model, own.adapter, name=NAME)
        try:
            set_strength(self.model, NAME, strength)
            scored = evaluate_rows(
                self.model, self.task, self.rows, padding=self.tokenizer.pad_token_id,
                batch_size=self.batch, adapters=[NAME],
            )  # fmt: skip
            with use(self.model, NAME):
                tuned = _next_tokens(self.model, self.texts)
        finally:
            remove(self.model, NAME)
        drift = (self.base.exp() * (self.base - tuned)).sum(-1).mean()
        return {"task": scored.metrics["loss"], "drift": max(float(drift), 0.0)}


@torch.no_grad()
def own_texts(model: Any, tokenizer: Any, count: int, tokens: int, *, seed: int = 0) -> Tensor:
    """Texts (count, tokens) that the base writes by chance, from the token that begins a text."""
    first = tokenizer.bos_token_id
    first = tokenizer.eos_token_id if first is None else first
    if first is None:
        raise RecipeError("The tokenizer has no token that begins a text, so the base writes none.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        begun = torch.full((count, 1), first)
        return model.generate(
            begun, attention_mask=torch.ones_like(begun), do_sample=True, top_k=0,
            min_new_tokens=tokens - 1, max_new_tokens=tokens - 1,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip


@torch.no_grad()
def _next_tokens(model: Any, texts: Tensor) -> Tensor:
    """Log-probabilities (texts, tokens, vocabulary) of what comes next."""
    parts = [model(input_ids=part).logits.float().log_softmax(-1) for part in texts.split(16)]
    return torch.cat(parts)


def _mean(records: Sequence[Record], name: str) -> Interval:
    return interval([own.figures[name] for own in records])


def _findings(cells: dict[tuple[str, float], list[Record]], ways: Sequence[str]) -> list[str]:
    whole = {way: cells[way, 1.0] for way in ways if (way, 1.0) in cells}
    if len(whole) < 2:
        return []
    told = ", ".join(
        f"{way}: task {_mean(own, 'task').mean:.3f}, distance {_mean(own, 'drift').mean:.3f}"
        for way, own in whole.items()
    )
    least = min(whole, key=lambda way: _mean(whole[way], "drift").mean)
    return [f"At strength 1, {told}. {least} moves the base least."]


def _curves(
    cells: dict[tuple[str, float], list[Record]], ways: Sequence[str], strengths: Sequence[float],
    figure: str, label: str,
) -> Picture:  # fmt: skip
    means = {key: _mean(own, figure) for key, own in cells.items()}
    series = [Series.of(way, [means.get((way, s)) for s in strengths]) for way in ways]
    caption = (
        f"{label[0].upper()}{label[1:]}, by the adapter's strength, 95 % intervals over seeds."
    )
    return lines(
        f"forgetting-{figure}", caption, (Axis("strength"), strengths), Axis(label), series
    )
