"""`doctor`: whether an adapter is healthy, fits a base, and which tools would load it right."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from lorakit.core.errors import LorakitError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState
from lorakit.formats import gguf, vllm
from lorakit.formats.components import part_of
from lorakit.formats.content import Options
from lorakit.formats.load import read_adapter
from lorakit.formats.packing import packed


@dataclass(frozen=True)
class Diagnosis:
    """What was found. `fits` is None where no base was given; `tools` has reasons against each."""

    adapter: str
    format: str
    fits: bool | None
    problems: list[str]
    tools: dict[str, list[str]]

    @property
    def healthy(self) -> bool:
        """Whether nothing speaks against using the adapter here."""
        return not self.problems and self.fits is not False

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON."""
        return {**asdict(self), "healthy": self.healthy}

    def __str__(self) -> str:
        fits = {None: "no base was given", True: "fits the base", False: "does not fit the base"}
        lines = [f"{self.adapter} ({self.format}): {fits[self.fits]}"]
        lines += [f"  problem: {problem}" for problem in self.problems]
        width = max((len(tool) for tool in self.tools), default=0)
        for tool, reasons in self.tools.items():
            lines.append(f"  {tool:<{width}}  {'; '.join(reasons) if reasons else 'loads it'}")
        return "\n".join(lines)


def doctor(adapter: str | os.PathLike, model: nn.Module | None = None) -> Diagnosis:
    """Examine an adapter of any format, against a base if one is given; changes nothing.

    What is wrong with the adapter is an answer and not raised; only a path without anything to read
    raises `AdapterFileError`.
    """
    options = Options(
        alpha=1.0, guess=True
    )  # a file that says no alpha can be examined all the same
    try:
        state = packed(_read(adapter, model, options))
    except LorakitError as error:
        if not os.path.exists(os.fspath(adapter)):
            raise
        return Diagnosis(os.fspath(adapter), "not readable", None, [str(error)], {})
    problems = _problems(state)
    fits = None
    if model is not None:
        try:
            read_adapter(adapter, model=model, options=options, pickles=True)
            fits = True
        except LorakitError as error:
            fits = False
            problems.append(str(error))
    alone = [f"it has no {state.method} in this form"] if state.parameters else []
    tools = {tool: alone or reasons(state) for tool, reasons in _TOOLS.items()}
    return Diagnosis(os.fspath(adapter), state.origin["format"], fits, problems, tools)


def _read(adapter: str | os.PathLike, model: nn.Module | None, options: Options) -> AdapterState:
    """The adapter by itself; with the base where its format cannot be read without."""
    try:
        return read_adapter(adapter, options=options, pickles=True)
    except UnsupportedError:
        if model is None:
            raise
    return read_adapter(adapter, model=model, options=options, pickles=True)


def _problems(state: AdapterState) -> list[str]:
    dead = [path for path, low in state.low_rank.items() if not low.A.any() or not low.B.any()]
    found = []
    if dead and len(dead) == len(state.low_rank) and state.method != "dora":
        found.append("every module's change is zero: it was never trained, or lost its B")
    elif dead and state.method != "dora":
        found.append(f"{len(dead)} modules change nothing: {shortlist(dead)}")
    large = [path for path, low in state.low_rank.items() if _overflows(low.A, low.B)]
    if large:
        found.append(f"values too large for float16 in {shortlist(large)}")
    return found


def _overflows(*values: torch.Tensor) -> bool:
    return any(float(value.abs().max()) > 65504 for value in values if value.numel())


def _peft(state: AdapterState) -> list[str]:
    del state
    return []


def _images(state: AdapterState) -> list[str]:
    """Reasons against diffusers, A1111 and ComfyUI: names of no image pipeline, whole modules."""
    outside = [path for path in state.low_rank if not _in_pipeline(path)]
    reasons = [f"{outside[0]!r} is in no part of an image pipeline"] if outside else []
    if state.extras or state.biases:
        reasons.append("modules or biases are trained in full")
    return reasons


def _in_pipeline(path: str) -> bool:
    try:
        part_of(path, Options())
    except UnsupportedError:
        return False
    return True


def _llama_cpp(state: AdapterState) -> list[str]:
    if state.origin.get("format") == gguf.name:
        return []
    reasons = [r for r in vllm.why_not(state) if "rank" not in r]
    odd = [path for path in state.low_rank if path.endswith(("lm_head", "embed_tokens"))]
    if odd:
        reasons.append(f"it changes {shortlist(odd)}")
    if state.rslora or len({state.scale(low) for low in state.low_rank.values()}) > 1:
        reasons.append("its converter knows one alpha / rank for all: convert it with --to gguf")
    return reasons


def _vllm(state: AdapterState) -> list[str]:
    reasons = vllm.why_not(state)
    ranks = {low.rank for low in state.low_rank.values()}
    alphas = {low.alpha for low in state.low_rank.values()}
    if not reasons and (len(ranks) > 1 or len(alphas) > 1 or not ranks <= set(vllm.RANKS)):
        reasons.append("ranks or alphas differ, or are none of its own: convert it with --to vllm")
    return reasons


_TOOLS: dict[str, Callable[[AdapterState], list[str]]] = {
    "PEFT": _peft,
    "vLLM": _vllm,
    "llama.cpp": _llama_cpp,
    "diffusers": _images,
    "A1111, ComfyUI": _images,
}
