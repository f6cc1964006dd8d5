from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import lorakit as lk
from families import build, inputs, randomise


def with_two(family: str = "llama", targets: str = "all-linear", **options):
    model = build(family)
    for seed, name in enumerate(("one", "two")):
        lk.inject(model, lk.plan(model, targets, 2), name=name, method=lk.LoRA(**options))
        randomise(model, name, seed=seed)
    return model


def answer(model, rows: int = 2):
    with torch.no_grad():
        return model(**inputs(model, rows=rows)).logits


def test_the_first_adapter_is_active_and_later_ones_wait():
    model = with_two()
    with lk.use(model, "one"):
        one = answer(model)
    assert torch.equal(answer(model), one)


def test_several_adapters_add_up():
    """On one linear layer the sum of two adapters is the sum of their changes."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    x = torch.randn(5, 4)
    for seed, name in enumerate(("one", "two")):
        lk.inject(model, {"0": 2}, name=name)
        randomise(model, name, seed=seed)
    lk.activate(model)
    base = model(x)
    changes = []
    for name in ("one", "two"):
        with lk.use(model, name):
            changes.append(model(x) - base)
    with lk.use(model, "two", "one"):
        torch.testing.assert_close(model(x), base + sum(changes))


def test_use_nests_and_ends():
    model = with_two()
    lk.activate(model, "two")
    two = answer(model)
    with lk.use(model, "one"):
        one = answer(model)
        with lk.use(model):
            base = answer(model)
        assert torch.equal(answer(model), one)
    assert torch.equal(answer(model), two)
    assert not torch.equal(one, two)
    assert not torch.equal(base, one)


def test_use_ends_when_its_block_raises():
    model = with_two()
    before = answer(model)

    class OwnError(Exception):
        pass

    with pytest.raises(OwnError), lk.use(model, "two"):
        raise OwnError
    assert torch.equal(answer(model), before)


def test_the_bare_base_needs_no_adapters():
    model = build("llama")
    lk.activate(model)
    with lk.use(model):
        answer(model)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("one", "one"), {}, "twice"),
        (("three",), {}, "No adapter 'three'"),
        (("one",), {"per_sample": ["one"]}, "one of the two"),
        ((), {"per_sample": []}, "per_sample"),
        ((), {"per_sample": "one"}, "per_sample"),
        ((), {"per_sample": ["one", "three"]}, "No adapter 'three'"),
    ],
)
def test_what_use_refuses(names, options, message):
    model = with_two()
    with pytest.raises(lk.LorakitError, match=message), lk.use(model, *names, **options):
        pass


def test_a_batch_of_another_size_than_named_is_refused():
    model = with_two()
    with (
        pytest.raises(lk.LorakitError, match="2 rows for the 3 samples"),
        lk.use(model, per_sample=["one", None, "two"]),
    ):
        answer(model, rows=2)


def test_beams_of_a_mixed_batch_follow_their_sample():
    model = with_two()
    batch = inputs(model, rows=3)
    options = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False, "pad_token_id": 0}
    rows = ["one", None, "two"]
    with lk.use(model, per_sample=rows):
        mixed = model.generate(**batch, **options)
    for i, name in enumerate(rows):
        with lk.use(model, *filter(None, [name])):
            alone = model.generate(**{k: v[i : i + 1] for k, v in batch.items()}, **options)
        assert torch.equal(mixed[i, : alone.shape[1]], alone[0])


def test_two_trained_copies_of_one_module_cannot_act_together():
    model = with_two(targets="q", extras=("lm_head",))
    with pytest.raises(lk.LorakitError, match="cannot act together"), lk.use(model, "one", "two"):
        pass
    with lk.use(model, per_sample=["one", "two"]):
        answer(model)


def test_activate_reaches_every_thread_and_use_only_its_own():
    model = with_two()
    lk.activate(model, "two")
    two = answer(model)
    found = {}

    def other() -> None:
        found["other"] = answer(model)

    with lk.use(model, "one"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert torch.equal(found["other"], two)


def test_what_is_in_use_is_neither_removed_nor_merged():
    model = with_two()
    entered, done = threading.Event(), threading.Event()

    def tenant() -> None:
        with lk.use(model, "two"):
            entered.set()
            done.wait(10)

    thread = threading.Thread(target=tenant)
    thread.start()
    entered.wait(10)
    try:
        with pytest.raises(lk.LorakitError, match="in use"):
            lk.remove(model, "two")
        with pytest.raises(lk.LorakitError, match="answers change"):
            lk.merge(model, "one")
        lk.remove(model, "one")
    finally:
        done.set()
        thread.join()
    lk.remove(model, "two")


def test_tasks_of_one_thread_are_not_mixed_up():
    """An await inside `use` would let another task answer with this one's adapters."""
    model = with_two()
    lk.activate(model)
    base = answer(model)
    seen = []

    async def holder(ready: asyncio.Event, done: asyncio.Event) -> None:
        with lk.use(model, "one"):
            ready.set()
            await done.wait()

    async def other(ready: asyncio.Event, done: asyncio.Event) -> None:
        await ready.wait()
        for attempt in (lambda: answer(model), lambda: lk.use(model, "two").__enter__()):
            try:
                seen.append(attempt())
            except lk.LorakitError as error:
                seen.append(str(error))
        done.set()

    async def both() -> None:
        ready, done = asyncio.Event(), asyncio.Event()
        await asyncio.gather(holder(ready, done), other(ready, done))

    asyncio.run(both())
    assert all(isinstance(entry, str) and "asyncio" in entry for entry in seen)
    assert torch.equal(answer(model), base)


class Checkpointed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


def test_a_block_is_recomputed_with_the_adapters_it_ran_with():
    model, x = Checkpointed(), torch.randn(3, 4)
    for seed, name in enumerate(("one", "two")):
        lk.inject(model, {"inner.0": 2}, name=name)
        randomise(model, name, seed=seed)
    with lk.use(model, "two"):
        loss = model(x).sum()
    with pytest.raises(lk.LorakitError, match="recomputed"):
        loss.backward()
    with lk.use(model, "two"):
        model(x).sum().backward()
    checkpointed = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    with lk.use(model, "two"):
        model.inner(x).sum().backward()
    plain = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(plain) == 2
    assert all(torch.equal(a, b) for a, b in zip(checkpointed, plain, strict=True))


def test_compiled_models_follow_the_route_without_graph_breaks():
    """The canary: if Dynamo stopped seeing the route, answers here would be stale."""
    model = with_two()
    batch = inputs(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        for names in ((), ("one",), ("two",), ("one", "two"), ()):
            with lk.use(model, *names):
                torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits)
        with lk.use(compiled, "one"):
            inside = compiled(**batch).logits
        with lk.use(model, "one"):
            # The compiled form adds out of place: the same numbers, rounded elsewhere.
            torch.testing.assert_close(inside, model(**batch).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("first", "second"), [((), "q"), ("q", "mlp"), ("q", ["q", "v"])])
def test_a_compiled_graph_is_not_used_for_a_model_with_other_adapters(first, second):
    """Two models of one architecture: each answers with its own adapter, or with none."""
    models = []
    for targets in (first, second):
        model = build("llama").requires_grad_(False)
        model.config.use_cache = False
        if targets:
            lk.inject(model, lk.plan(model, targets, 2))
            randomise(model, "default")
        models.append(model)
    batch = inputs(model)
    with torch.no_grad():
        for model in models:
            found = torch.compile(model, backend="eager", fullgraph=True)(**batch).logits
            torch.testing.assert_close(found, model(**batch).logits, rtol=1e-5, atol=1e-6)


def test_an_adapter_that_comes_after_compiling_is_seen():
    model = build("llama").requires_grad_(False)
    model.config.use_cache = False
    batch = inputs(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        before = compiled(**batch).logits
        lk.inject(model, lk.plan(model, "q", 2))
        randomise(model, "default")
        found = compiled(**batch).logits
        torch.testing.assert_close(found, model(**batch).logits, rtol=1e-5, atol=1e-6)
        assert not torch.equal(found, before)
        lk.remove(model, "default")
        torch.testing.assert_close(compiled(**batch).logits, before)
