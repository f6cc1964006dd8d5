"""Adapters combined here and by PEFT: how far the result is from the weighted sum of outputs.

    python benchmarks/combine.py

Two adapters with random values on the demo's base. The error is |logits - expected| / |expected -
base|, where `expected` has the adapters' own changes added into the weights in float64.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import peft
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

import lorakit as lk
from lorakit.demo import base_folder
from lorakit.formats.load import read_adapter

warnings.filterwarnings("ignore")
logging.disable_progress_bar()
IDS = torch.randint(5, 2000, (4, 24), generator=torch.Generator().manual_seed(0))
METHODS = {
    "LoRA, rank 8": (lk.LoRA(alpha=16), 8),
    "LoRA, rank 4": (lk.LoRA(alpha=16), 4),
    "rsLoRA": (lk.LoRA(alpha=16, rslora=True), 8),
    "a norm trained in full": (lk.LoRA(alpha=16, extras=("model.norm",)), 8),
    "DoRA": (lk.DoRA(alpha=16), 8),
}


def base():
    return AutoModelForCausalLM.from_pretrained(base_folder(), dtype=torch.float64).eval()


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def make(folder: Path, method: lk.LoRA, rank: int, seed: int) -> Path:
    model = base()
    lk.inject(model, lk.plan(model, "all-linear", rank), method=method)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora." in name:
            parameter.data += 0.03 * torch.randn_like(parameter)
    lk.save(model, folder)
    return folder


def expected(folders: list[Path], weights: list[float]) -> torch.Tensor:
    """The sum of the changes put into the weights by hand."""
    model = base()
    for folder, weight in zip(folders, weights):
        state = read_adapter(folder)
        for path, low in state.low_rank.items():
            change = state.scale(low) * low.B.double() @ low.A.double()
            model.get_submodule(path).weight.data += weight * change
    return logits(model)


def ours(folders: list[Path], weights: list[float], out: Path) -> torch.Tensor:
    lk.combine(folders, weights=weights, out=out)
    model = base()
    lk.load(model, out, check_base=False)
    return logits(model)


def theirs(folders: list[Path], weights: list[float], kind: str) -> torch.Tensor:
    names = [f"n{place}" for place in range(len(folders))]
    model = peft.PeftModel.from_pretrained(base(), folders[0], adapter_name=names[0])
    for name, folder in zip(names[1:], folders[1:]):
        model.load_adapter(folder, adapter_name=name)
    model.add_weighted_adapter(names, weights, "sum", combination_type=kind)
    model.set_adapter("sum")
    return logits(model.eval())


def row(what: str, target: torch.Tensor, found: dict) -> None:
    size = (target - logits(base())).norm()

    def cell(run) -> str:
        try:
            return f"{float((run() - target).norm() / size):.2g}"
        except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
            return type(error).__name__

    print(f"| {what} | {' | '.join(map(cell, found.values()))} |")


def main() -> None:
    """Print the table."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    print("| combined | lorakit, exact | PEFT, linear | PEFT, cat |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for number, (what, (method, rank)) in enumerate(METHODS.items()):
            one = [make(root / f"{number}", method, rank, 0)]
            alone = base()
            lk.load(alone, one[0], check_base=False)
            row(f"{what}, weight 1.0", logits(alone), {
                "ours": lambda one=one, n=number: ours(one, [1.0], root / f"o{n}"),
                "linear": lambda one=one: theirs(one, [1.0], "linear"),
                "cat": lambda one=one: theirs(one, [1.0], "cat"),
            })  # fmt: skip
        for what, other in (("two of rank 8", 8), ("ranks 8 and 4", 4)):
            pair = [root / "0", make(root / f"second{other}", lk.LoRA(alpha=16), other, 1)]
            weights = [0.7, 0.3]
            row(f"{what}, weights 0.7 and 0.3", expected(pair, weights), {
                "ours": lambda p=pair, w=weights, o=other: ours(p, w, root / f"sum{o}"),
                "linear": lambda p=pair, w=weights: theirs(p, w, "linear"),
                "cat": lambda p=pair, w=weights: theirs(p, w, "cat"),
            })  # fmt: skip


if __name__ == "__main__":
    main()
