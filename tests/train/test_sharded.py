"""Training over two processes with FSDP2: the same losses and the same adapter as in one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

import lorakit as lk
from families import build, inputs, randomise
from lorakit.layers import add

STEPS, ROWS = 3, 4
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch was built without torch.distributed"
)


def adapted():
    torch.manual_seed(0)
    model = build("llama")
    model.config.use_cache = False
    lk.inject(model, lk.plan(model, "all-linear", 2), method=lk.LoRA(alpha=4))
    randomise(model, "default")
    return model.train()


def train(model, rows: slice) -> list[torch.Tensor]:
    """A few steps on some rows of each batch; the loss of each."""
    trained = [p for p in model.parameters() if p.requires_grad]
    # A bare sum of gradients is what differs where one process counts for less than another.
    optimizer = torch.optim.SGD(trained, lr=0.5)
    losses = []
    for seed in range(STEPS):
        ids = torch.randint(4, 64, (ROWS, 9), generator=torch.Generator().manual_seed(seed))[rows]
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return losses


def work(rank: int, folder: Path) -> None:
    """What each of the two processes does."""
    from torch import distributed
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    torch.set_num_threads(1)
    meet = (folder / "meet").as_uri()
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
    mesh = distributed.device_mesh.init_device_mesh("cpu", (2,))
    model = adapted()
    for block in [*model.model.layers, model]:
        fully_shard(block, mesh=mesh)
    assert all(isinstance(p, DTensor) for p in model.parameters())
    fast = []
    free = add.is_free
    add.is_free = lambda *args: fast.append(free(*args)) or fast[-1]
    losses = torch.stack(train(model, slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)))
    distributed.all_reduce(losses)
    lk.save(model, folder / f"adapter-{rank}")
    told = {"losses": (losses / 2).tolist(), "fast": all(fast), "calls": len(fast)}
    (folder / f"{rank}.json").write_text(json.dumps(told))
    distributed.destroy_process_group()


def test_two_processes_train_as_one_does(tmp_path):
    alone = adapted()
    expected = torch.stack(train(alone, slice(0, ROWS)))
    multiprocessing.spawn(work, (tmp_path,), nprocs=2)
    for rank in range(2):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        torch.testing.assert_close(torch.tensor(told["losses"]), expected, rtol=1e-5, atol=0)
        assert told["fast"]
        assert told["calls"] == STEPS * 14  # layers that are adapted
        manifest = json.loads((tmp_path / f"adapter-{rank}" / "lorakit.json").read_text())
        assert manifest["base"]["class"] == "LlamaForCausalLM"
        model = build("llama")
        lk.load(model, tmp_path / f"adapter-{rank}")
        loaded, held = (
            {n: p for n, p in m.named_parameters() if ".lora." in n} for m in (model, alone)
        )
        assert loaded.keys() == held.keys()
        for name, value in loaded.items():
            torch.testing.assert_close(value, held[name], rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            batch = inputs(model)
            logits = model.eval()(**batch).logits
            torch.testing.assert_close(logits, alone.eval()(**batch).logits, rtol=1e-4, atol=1e-5)
