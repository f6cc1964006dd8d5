"""The nine laws, over layer types, methods, dtypes, and tied and untied bases."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import lorakit as lk
from families import build, inputs, randomise

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Case:
    """One cell of the matrix: a base, what is adapted, and how."""

    family: str
    targets: object
    method: lk.LoRA = field(default_factory=lambda: lk.LoRA(alpha=8))
    head: str = "lm"
    rank: object = 3
    noise: float = 0.1  # spread of the values that adapters get
    quantised: str = ""
    alone: bool = False  # its adapters answer for whole modules, so that two cannot add up
    slack: float = 0.0  # what else may part merged from unmerged, of the largest output

    def base(self, **options):
        """The case's model, without adapters."""
        return build(self.family, head=self.head, quantised=self.quantised, **options)


CASES = {
    "linear": Case("llama", "all-linear", noise=0.05),
    "linear, tied base": Case("llama-tied", "all-linear", lk.LoRA(alpha=4, rslora=True)),
    "linear, rank and alpha by pattern": Case(
        "llama", ["q", "down"], lk.LoRA(alpha={"*.0.*": 4, "*": 16}),
        rank={"*.layers.1-3.*": 5, "*": 2},
    ),
    "conv1d, fused": Case("gpt2", ["qkv", "o", "mlp"]),
    "slices": Case("gpt2", ["q", "v"]),
    "slices between heads": Case("gpt_neox", ["q", "v"], lk.LoRA(alpha=6, rslora=True)),
    "slices of several sizes and ranks": Case(
        "phi3", ["q", "k", "v", "up"], rank={"*:k": 2, "v": 8, "*": 4}
    ),
    "dora": Case("llama", "all-linear", lk.DoRA(alpha=8)),
    "dora, conv1d, embedding": Case("gpt2", ["qkv", "embeddings"], lk.DoRA(alpha=8, rslora=True)),
    "dora, biased": Case("bert", "all-linear", lk.DoRA(alpha=8, bias="lora_only"), noise=0.3),
    "dora, convolution": Case("regnet", ["*.convolution"], lk.DoRA(alpha=8), noise=0.3),
    "dora from principal values": Case("llama", ["q", "v"], lk.DoRA(alpha=8, init="pissa")),
    "singular values": Case("llama", "all-linear", lk.AdaLoRA(alpha=8)),
    "singular values of slices and tables": Case(
        "gpt_neox", ["q", "v", "embeddings"], lk.AdaLoRA(alpha=8, bias="lora_only")
    ),
    "frozen A": Case("llama", ["q", "v", "embeddings"], lk.LoRAFA(alpha=8)),
    "principal values": Case("llama", "all-linear", lk.LoRA(alpha=8, init="pissa")),
    "principal values of slices": Case(
        "gpt_neox", ["q", "v", "embeddings"], lk.LoRA(alpha=8, rslora=True, init="pissa")
    ),
    "principal values of convolutions": Case(
        "resnet", ["*.1.*.convolution"], lk.LoRA(alpha=8, init="pissa")
    ),
    "orthonormal start": Case("gpt2", "all-linear", lk.LoRA(alpha=8, init="olora")),
    "convolution": Case("resnet", ["*.convolution", "*.shortcut.*"]),
    "convolution, grouped": Case("regnet", ["*.convolution"]),
    "embedding": Case("gpt_neox", "embeddings"),
    "embedding, tied": Case("llama-tied", "embeddings"),
    "embedding, scaled and tied": Case("gemma", ["embeddings", "v"]),
    "head, tied": Case("llama-tied", ["lm_head", "q"]),
    "head and embedding, tied": Case("gpt2", ["embeddings", "head"]),
    "encoder-decoder": Case("t5", ["q", "v", "mlp"]),
    "encoder-decoder embeddings": Case("t5", ["embeddings"]),
    "biases of adapted layers": Case("bert", "attention", lk.LoRA(alpha=8, bias="lora_only")),
    "all biases": Case("bert", ["q"], lk.LoRA(alpha=8, bias="all"), head="classes"),
    "new head": Case("bert", "attention", lk.LoRA(alpha=8, extras=("classifier",)), "classes"),
    "new head of two layers": Case(
        "roberta", ["q", "v"], lk.LoRA(alpha=8, extras=("classifier",)), "classes"
    ),
    "norms": Case("llama", ["norms", "q"], noise=0.4),
    "layer norms, all biases": Case(
        "bert", ["norms", "v"], lk.LoRA(alpha=8, bias="all"), head="classes"
    ),
    "norms of an encoder-decoder": Case("t5", "norms", noise=0.4),
    "norms with an offset": Case("gemma2", "norms", noise=0.4),
    "trained norm and tied head": Case(
        "llama-tied", ["q"], lk.LoRA(alpha=8, extras=("lm_head", "model.norm"))
    ),
    "experts": Case("mixtral", ["experts", "q"], rank={"q": 2, "*": 3}, alone=True, noise=0.2),
    "experts, one parameter, frozen A": Case(
        "qwen3_moe", ["experts:down_proj"], lk.LoRAFA(alpha=8), alone=True, noise=0.4
    ),
    "experts, stored the other way round": Case(
        "gpt_oss", "experts", lk.LoRA(alpha=6, rslora=True), alone=True, noise=0.2
    ),
    "vectors": Case("llama", "all-linear", lk.VeRA(), rank=6, noise=0.4),
    "vectors, fused": Case("gpt2", ["qkv", "mlp"], lk.VeRA(bias="lora_only"), noise=0.4),
    "vectors, four bits": Case("llama", "attention", lk.VeRA(), noise=0.2, quantised="nf4"),
    "four bits": Case("llama", ["all-linear", "norms"], quantised="nf4"),
    "four bits, fused, biased": Case(
        "gpt2", ["q", "v", "mlp"], lk.LoRA(alpha=8, bias="lora_only"), quantised="nf4", noise=0.3
    ),
    "dora, four bits": Case("llama", "all-linear", lk.DoRA(alpha=8), quantised="nf4", noise=0.3),
    "principal values of four bits": Case(
        "llama", "attention", lk.LoRA(alpha=8, init="pissa"), quantised="nf4", noise=0.3
    ),
    # Not more noise: bitsandbytes keeps columns of outliers apart by what the whole batch holds.
    "eight bits": Case("llama", "all-linear", quantised="int8", slack=0.02, noise=0.15),
    "eight bits, new head": Case(
        "bert", ["q", "v"], lk.LoRA(alpha=8, extras=("classifier",)), "classes",
        quantised="int8", slack=0.02,
    ),
    "dora, eight bits": Case(
        "llama", "all-linear", lk.DoRA(alpha=8), quantised="int8", slack=0.02, noise=0.3
    ),
    "weights alone in eight bits": Case("llama", "all-linear", quantised="torchao-int8"),
    "dora, weights alone in eight bits": Case(
        "llama", "all-linear", lk.DoRA(alpha=8), quantised="torchao-int8", noise=0.3
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())


def adapted(case: Case, dtype: torch.dtype = torch.float32, names=("one",)):
    """A model with adapters of this case, each with values of its own; the base is active."""
    model = case.base(dtype=dtype)
    for seed, name in enumerate(names):
        plan = lk.plan(model, targets=case.targets, rank=case.rank)
        lk.inject(model, plan, name=name, method=case.method)
        randomise(model, name, seed=seed, scale=case.noise)
    lk.activate(model)
    return model


def answer(model, rows: int = 2) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs(model, rows=rows)).logits


def using(model, *names: str, rows: int = 2) -> torch.Tensor:
    with lk.use(model, *names):
        return answer(model, rows)


def snapshot(model) -> dict:
    """Everything that must be as before: tensors, hooks, flags, adapters."""
    return {
        "state": {key: value.clone() for key, value in model.state_dict().items()},
        "keys": list(model.state_dict()),
        "objects": {name: id(p) for name, p in model.named_parameters()},
        "hooks": {name: len(m._forward_hooks) for name, m in model.named_modules()},
        "kwargs hooks": {n: len(m._forward_hooks_with_kwargs) for n, m in model.named_modules()},
        "hooks before": {name: len(m._forward_pre_hooks) for name, m in model.named_modules()},
        "forwards": [name for name, m in model.named_modules() if "forward" in m.__dict__],
        "trained": {name: p.requires_grad for name, p in model.named_parameters()},
        "adapters": lk.adapters(model),
        "attributes": sorted(model.__dict__),
    }


def assert_same(before: dict, after: dict) -> None:
    states = before.pop("state"), after.pop("state")
    assert before == after
    assert all(same_bits(states[0][key], states[1][key]) for key in states[0])


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


def bits(value: torch.Tensor) -> torch.Tensor:
    value = value.detach()
    if hasattr(value, "qdata"):  # torchao's: codes and scales
        return torch.cat([bits(value.qdata), bits(value.scale)])
    return value.contiguous().reshape(-1).view(torch.uint8)


def rounding(dtype: torch.dtype, scale: torch.Tensor, adapters: int = 1) -> float:
    """What the roundings of a few layers may add up to, for outputs of this size."""
    return 10 * adapters * torch.finfo(dtype).eps * float(scale.abs().max())


@EACH
@EACH_DTYPE
def test_law_1_a_fresh_adapter_changes_nothing(case, dtype):
    model = case.base(dtype=dtype)
    before = answer(model)
    lk.inject(model, lk.plan(model, targets=case.targets, rank=case.rank), method=case.method)
    assert torch.equal(answer(model), before)


@EACH
@EACH_DTYPE
def test_law_2_merged_equals_unmerged(case, dtype):
    model = adapted(case, dtype, names=("one", "two"))
    base = answer(model)
    for names in [("one",), ("two",), ("one", "two")]:
        if len(names) == 2 and (case.method.extras or case.alone):
            continue  # refused by type: see test_activate and test_experts
        expected = using(model, *names)
        bound = rounding(dtype, expected, len(names)) + case.slack * float(expected.abs().max())
        assert (expected - base).abs().max() > 2 * bound / len(names), "the case is too weak"
        with lk.merged(model, *names):
            found = answer(model)
        assert (found - expected).abs().max() <= bound


@EACH
@EACH_DTYPE
def test_law_3_unmerge_restores_every_bit(case, dtype):
    model = adapted(case, dtype, names=("one", "two"))
    before = snapshot(model)
    for cycle in range(100):
        lk.merge(model, ("one", "two")[cycle % 2])
        lk.unmerge(model)
    assert_same(before, snapshot(model))


@EACH
@EACH_DTYPE
def test_law_4_remove_restores_everything(case, dtype):
    model = case.base(dtype=dtype)
    before, logits = snapshot(model), answer(model)
    for name in ("one", "two"):
        lk.inject(model, lk.plan(model, case.targets, case.rank), name=name, method=case.method)
        randomise(model, name)
    lk.remove(model, "one")
    assert lk.adapters(model) == ("two",)
    lk.remove(model, "two")
    assert_same(before, snapshot(model))
    assert torch.equal(answer(model), logits)


@EACH
def test_law_5_each_row_of_a_mixed_batch_is_its_adapter_alone(case):
    model = adapted(case, names=("one", "two"))
    rows = ["two", None, "one", "two"]
    alone = [using(model, *filter(None, [name]), rows=4)[i] for i, name in enumerate(rows)]
    with lk.use(model, per_sample=rows):
        mixed = answer(model, rows=4)
    for found, expected in zip(mixed, alone):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@EACH
def test_law_5_backward(case):
    model = adapted(case, names=("one", "two"))
    rows = ["two", None, "one", "two"]
    weights = torch.randn(answer(model, rows=4).shape, generator=torch.Generator().manual_seed(1))

    def gradients(name: str, mixed: bool) -> dict[str, torch.Tensor]:
        model.zero_grad()
        batch = inputs(model, rows=4)
        chosen = rows if mixed else [name if row == name else None for row in rows]
        if mixed:
            with lk.use(model, per_sample=chosen):
                (model(**batch).logits * weights).sum().backward()
        else:
            mine = torch.tensor([row == name for row in rows])
            with lk.use(model, name):
                (model(**batch).logits[mine] * weights[mine]).sum().backward()
        part = f".lora.a{('one', 'two').index(name)}."
        return {k: p.grad for k, p in model.named_parameters() if part in k and p.grad is not None}

    for name in ("one", "two"):
        expected, found = gradients(name, mixed=False), gradients(name, mixed=True)
        assert expected.keys() == found.keys()
        assert expected
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4)


LOAD = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from test_laws import CASES, answer
from families import build
import lorakit as lk
result = {}
for name, case in CASES.items():
    folder = f"{sys.argv[2]}/{list(CASES).index(name)}"
    model = case.base()
    lk.load(model, folder + "/adapter", name="again")
    expected = torch.load(folder + "/logits.pt", weights_only=True)
    lk.save(model, folder + "/again")
    first, second = (open(f"{folder}/{x}/adapter_model.safetensors", "rb").read()
                     for x in ("adapter", "again"))
    result[name] = [torch.equal(answer(model), expected), first == second]
print(json.dumps(result))
"""


def test_law_6_a_fresh_process_loads_the_same_bits(tmp_path):
    for place, case in enumerate(CASES.values()):
        model = adapted(case)
        folder = tmp_path / str(place)
        lk.save(model, folder / "adapter", name="one")
        torch.save(using(model, "one"), folder / "logits.pt")
    here = str(Path(__file__).parent)
    command = [sys.executable, "-W", "ignore", "-c", LOAD, here, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == {name: [True, True] for name in CASES}


def raisers(model, case: Case, folder: Path) -> dict:
    """Things that must raise, by name."""
    plan = lk.plan(model, case.targets, case.rank)
    first = next(iter(plan))
    good = folder / "good"
    lk.save(model, good, name="one")
    damaged = folder / "damaged"
    lk.save(model, damaged, name="one")
    file = damaged / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    occupied = folder / "occupied"
    occupied.mkdir()
    (occupied / "thesis.txt").write_text("ten years of work")
    return {
        "a path that is not there": lambda: lk.inject(model, {**plan, "no.such": 2}, name="x"),
        "a negative rank": lambda: lk.inject(model, {**plan, first: -1}, name="x"),
        "a module without a form": lambda: lk.inject(
            model, {**plan, first.rpartition(".")[0] or "model": 2}, name="x"
        ),
        "a taken name": lambda: lk.inject(model, plan, name="ONE"),
        "an unknown extra": lambda: lk.inject(
            model, plan, name="x", method=lk.LoRA(extras=("no_such",))
        ),
        "a damaged file": lambda: lk.load(model, damaged, name="x"),
        "an empty folder": lambda: lk.load(model, folder, name="x"),
        "an unknown name": lambda: lk.activate(model, "nobody"),
        "unmerge without merge": lambda: lk.unmerge(model),
        "a folder of someone's work": lambda: lk.save(model, occupied, name="one"),
        "removing the unknown": lambda: lk.remove(model, "nobody"),
    }


@EACH
def test_law_7_what_raises_leaves_no_trace(case, tmp_path):
    model = adapted(case)
    attempts = raisers(model, case, tmp_path)
    before, files = snapshot(model), sorted(map(str, tmp_path.rglob("*")))
    logits = using(model, "one")
    for what, attempt in attempts.items():
        with pytest.raises(lk.LorakitError) as caught:
            attempt()
        assert len(str(caught.value)) > 20, what
        assert_same(dict(before), snapshot(model))
        assert sorted(map(str, tmp_path.rglob("*"))) == files, what
    assert torch.equal(using(model, "one"), logits)


def test_law_7_a_merge_that_overflows_leaves_no_trace():
    case = CASES["linear"]
    model = adapted(case, torch.float16)
    randomise(model, "one", scale=3000.0)
    before = snapshot(model)
    with pytest.raises(lk.LorakitError, match="not finite"):
        lk.merge(model, "one")
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_law_8_threads_never_answer_for_each_other(family):
    model = build(family)
    names = [f"tenant {i}" for i in range(4)]
    for seed, name in enumerate(names):
        lk.inject(model, lk.plan(model, "all-linear", 2), name=name)
        randomise(model, name, seed=seed)
    lk.activate(model)
    expected = {name: using(model, name) for name in names}
    wrong, ready = [], threading.Barrier(4)

    def tenant(name: str) -> None:
        nonlocal wrong
        ready.wait()
        for turn in range(200):
            wrong += [] if torch.equal(using(model, name), expected[name]) else [(name, turn)]

    threads = [threading.Thread(target=tenant, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, f"{len(wrong)} of 800 answers were wrong"


@EACH
def test_law_8_threads_share_one_adapter(case):
    model = adapted(case, torch.bfloat16)
    before, expected = snapshot(model), using(model, "one")
    wrong, ready, interval = [], threading.Barrier(4), sys.getswitchinterval()

    def tenant() -> None:
        ready.wait()
        wrong.extend(turn for turn in range(20) if not torch.equal(using(model, "one"), expected))

    threads = [threading.Thread(target=tenant) for _ in range(4)]
    sys.setswitchinterval(1e-6)  # threads change places as often as they can
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert_same(before, snapshot(model))


@EACH
def test_law_8_a_copy_is_a_model_of_its_own(case):
    model = adapted(case, names=("one", "two"))
    other = copy.deepcopy(model)
    expected = using(model, "one")
    lk.activate(other, "two")
    lk.remove(other, "one")
    assert torch.equal(using(model, "one"), expected)
    assert lk.adapters(model) == ("one", "two")


@EACH
def test_law_9_an_adapter_on_another_base_raises(case, tmp_path):
    model = adapted(case)
    lk.save(model, tmp_path / "adapter", name="one")
    other = case.base(seed=1)
    before = snapshot(other)
    with pytest.raises(lk.LorakitError, match="another base"):
        lk.load(other, tmp_path / "adapter")
    assert_same(before, snapshot(other))
    lk.load(other, tmp_path / "adapter", check_base=False)
