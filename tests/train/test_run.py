from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback, TrainingArguments

import lorakit as lk
from lorakit.core.errors import (
    DeadAdapterError,
    LorakitError,
    RecipeError,
    ResumeError,
    TrainingError,
)
from lorakit.eval.session import open_session
from lorakit.jobs.history import runs
from lorakit.layers import is_quantised
from lorakit.methods.lora_plus import parameter_groups
from lorakit.models.load import load_base
from lorakit.tasks import make_task
from lorakit.tasks.options import DataOptions
from lorakit.train import AdapterTrainer, checkpoint
from lorakit.train import run as run_module
from lorakit.train.identity import hash_data
from lorakit.train.lock import owned
from lorakit.train.recipe import make_recipe
from lorakit.train.record import read_events
from lorakit.train.run import run
from lorakit.train.setup import arguments
from lorakit.train.start import centre_score

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def stop_after(monkeypatch, step: int):
    """Let the run die in the middle of a step, as a crash would."""

    class Crash(Exception):
        pass

    original = AdapterTrainer.training_step

    def dying(self, *args, **kwargs):
        if self.state.global_step == step:
            raise Crash
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AdapterTrainer, "training_step", dying)
    return Crash


def run_and_resume(recipe_for, folder, monkeypatch, **changes):
    """A whole run, which its twin that died at step 7 and went on equals to the bit."""
    whole = run(recipe_for(output=str(folder / "whole"), **changes), quiet=True)
    recipe = recipe_for(**changes)
    with monkeypatch.context() as patch:
        crash = stop_after(patch, 7)
        with pytest.raises(crash):
            run(recipe, quiet=True)
    resumed = run(recipe, resume=True, quiet=True)
    assert adapter_bytes(resumed.folder) == adapter_bytes(whole.folder)
    return whole


TASKS = [
    ("completion", "llama", "eval_token_accuracy", {}),
    (
        "chat",
        "llama",
        "eval_perplexity",
        {"data__chat_template": "chatml", "data__max_length": 300},
    ),
    ("text", "llama", "eval_loss", {}),
    ("seq2seq", "t5", "eval_loss", {}),
    ("classification", "bert", "eval_accuracy", {}),
    ("classification", "llama", "eval_f1_macro", {}),
    ("regression", "bert", "eval_pearson", {}),
]


@pytest.mark.parametrize(("task", "family", "metric", "changes"), TASKS)
def test_every_task_trains_and_leaves_a_whole_run(task, family, metric, changes, recipe_for):
    result = run(recipe_for(task, family, train__lr=2e-3, **changes), quiet=True)
    files = {path.name for path in result.folder.iterdir()}
    assert files >= {
        "recipe.yaml", "run.json", "events.jsonl", "log.txt", "loss.png", "metrics.json",
        "checkpoints", "adapter",
    }  # fmt: skip
    events = read_events(result.folder / "events.jsonl")
    steps = [event for event in events if "loss" in event]
    assert [event["step"] for event in steps] == list(range(1, 13))
    for event in steps:
        assert event.keys() >= {"step", "loss", "lr", "grad_norm", "tokens_per_second"}
        assert math.isfinite(event["loss"])
    assert [event["step"] for event in events if metric in event] == [4, 8, 12]
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert metrics[metric] == result.metrics[metric]
    base = load_base(
        recipe_for(task, family).model,
        {"seq2seq": "seq2seq", "classification": "classes", "regression": "classes"}.get(
            task, "causal"
        ),
        labels={"classification": ["early", "late"], "regression": []}.get(task),
    )
    lk.load(base.model, result.adapter, name="again", check_base=False)
    manifest = json.loads((result.adapter / "lorakit.json").read_text())
    assert manifest["run"]["recipe"]["task"] == task
    assert manifest["run"]["data"]["train"].keys() == {"train.jsonl"}


def test_a_new_head_for_a_score_begins_at_the_mean(recipe_for, tmp_path):
    recipe = recipe_for("regression", "bert", train__lr=2e-3)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    shifted = [{**row, "score": 1000.0 + row["score"]} for row in rows]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shifted))
    (tmp_path / "eval.jsonl").write_text((tmp_path / "train.jsonl").read_text())
    result = run(recipe, quiet=True)
    # From 0 the first loss would be 1,000,000, and twelve steps would not come near.
    losses = [
        event["loss"] for event in read_events(result.folder / "events.jsonl") if "loss" in event
    ]
    assert losses[0] < 100
    assert result.metrics["eval_mse"] < 100
    tensors = load_file(result.adapter / "adapter_model.safetensors")
    (bias,) = [value for key, value in tensors.items() if key.endswith("classifier.bias")]
    mean = sum(row["score"] for row in shifted) / len(shifted)
    assert float(bias) == pytest.approx(mean, abs=0.1)


def test_a_mean_that_a_narrow_head_cannot_hold_is_its_largest_number():
    model = torch.nn.ModuleDict({"head": torch.nn.Linear(2, 1).half()})
    rows = [{"labels": -2e5}, {"labels": -1e5}]
    centre_score(make_task("regression", DataOptions(train="x")), model, ["head"], rows)
    assert model["head"].bias.item() == torch.finfo(torch.float16).min


def test_a_new_head_travels_with_its_adapter(recipe_for):
    """The head of a classifier is fresh: saved and loaded, it must answer as it did in training."""
    recipe = recipe_for("classification", "bert", train__lr=2e-3)
    result = run(recipe, quiet=True)
    tensors = load_file(result.adapter / "adapter_model.safetensors")
    assert any("classifier.weight" in key for key in tensors)
    torch.manual_seed(123)
    first = load_base(recipe.model, "classes", labels=["early", "late"])
    second = load_base(recipe.model, "classes", labels=["early", "late"])
    assert "classifier" in first.fresh
    ids = torch.randint(5, 50, (2, 6))
    answers = []
    for base in (first, second):
        lk.load(base.model.eval(), result.adapter, check_base=False)
        with torch.no_grad():
            answers.append(base.model(input_ids=ids).logits)
    if first.fresh == ["classifier"]:
        assert torch.equal(*answers)


@pytest.mark.parametrize("death", [0, 1, 5, 7, 11])
def test_a_run_that_died_resumes_to_the_same_bits(death, recipe_for, tmp_path, monkeypatch):
    whole = run(recipe_for(train__accumulate=2, output=str(tmp_path / "whole")), quiet=True)
    recipe = recipe_for(train__accumulate=2)
    with monkeypatch.context() as patch:
        crash = stop_after(patch, death)
        with pytest.raises(crash):
            run(recipe, quiet=True)
    resumed = run(recipe, resume=True, quiet=True)
    assert adapter_bytes(resumed.folder) == adapter_bytes(whole.folder)
    losses = [
        [event["loss"] for event in read_events(r.folder / "events.jsonl") if "loss" in event]
        for r in (whole, resumed)
    ]
    assert losses[0] == losses[1]
    assert resumed.metrics["step"] == whole.metrics["step"]


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "dora"},
        {"method": "lora-fa", "train__lora_plus": 8},
        {"lora__init": "pissa", "lora__targets": ["attention", "norms"]},
        {"method": "dora", "lora__init": "olora", "lora__rslora": True},
    ],
    ids=["dora", "lora-fa and lora+", "pissa and norms", "dora, olora, rslora"],
)
def test_every_method_learns_and_resumes_to_the_same_bits(
    changes, recipe_for, tmp_path, monkeypatch
):
    whole = run_and_resume(recipe_for, tmp_path, monkeypatch, **changes)
    losses = [e["loss"] for e in read_events(whole.folder / "events.jsonl") if "loss" in e]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_lora_plus_parts_the_learning_rates(bases):
    model = load_base(bases["llama"], "causal").model
    lk.inject(model, lk.plan(model, ["q", "embeddings", "norms"], 2))
    args = TrainingArguments(output_dir="unused", learning_rate=1e-3, report_to=[])
    optimizer = AdapterTrainer(model, args, lora_plus=8).create_optimizer()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {
        name: 8e-3 if name.endswith(("q_proj.lora.a0.low_rank.B", "tokens.lora.a0.low_rank.A"))
        else 1e-3
        for name, p in model.named_parameters() if p.requires_grad
    }  # fmt: skip
    assert {n: rates[id(p)] for n, p in model.named_parameters() if p.requires_grad} == expected
    groups = parameter_groups(model, lr=1e-3, ratio=8)
    assert {id(p): g["lr"] for g in groups for p in g["params"]} == rates


@pytest.mark.parametrize("ratio", [1, 8])
def test_the_optimiser_is_one_kernel(ratio, bases, recipe_for):
    model = load_base(bases["llama"], "causal").model
    lk.inject(model, lk.plan(model, "q", 2))
    args = arguments(recipe_for(), 48, best=None, device="cpu")
    optimizer = AdapterTrainer(model, args, lora_plus=ratio).create_optimizer()
    assert type(optimizer) is torch.optim.AdamW
    assert all(group["fused"] for group in optimizer.param_groups)


def test_a_torn_newest_checkpoint_is_passed_over(recipe_for, tmp_path, monkeypatch):
    whole = run(recipe_for(output=str(tmp_path / "whole")), quiet=True)
    recipe = recipe_for()
    with monkeypatch.context() as patch:
        crash = stop_after(patch, 9)
        with pytest.raises(crash):
            run(recipe, quiet=True)
    newest = checkpoint.all_of(tmp_path / "run" / "checkpoints")[0]
    (newest / "optimizer.pt").write_bytes(b"torn")
    resumed = run(recipe, resume=True, quiet=True)
    assert adapter_bytes(resumed.folder) == adapter_bytes(whole.folder)
    assert f"{newest.name} is passed over" in (resumed.folder / "log.txt").read_text()


def test_what_was_killed_after_the_last_step_is_only_finished(recipe_for, monkeypatch):
    recipe = recipe_for()
    whole = run(recipe, quiet=True)
    expected = adapter_bytes(whole.folder)
    for name in ("adapter/adapter_model.safetensors", "metrics.json"):
        (whole.folder / name).unlink()
    stop_after(monkeypatch, 0)
    resumed = run(recipe, resume=True, quiet=True)
    assert adapter_bytes(resumed.folder) == expected


def test_resuming_what_never_began_begins_it(recipe_for):
    assert run(recipe_for(), resume=True, quiet=True).metrics["step"] > 0


@pytest.mark.parametrize(
    ("what", "message"),
    [("recipe", "lora.alpha was 4.0 and is 8.0"), ("data", "train data are other files"),
     ("base", "base is not the one")],
)  # fmt: skip
def test_resuming_something_else_is_refused(what, message, recipe_for, tmp_path, monkeypatch):
    recipe = recipe_for()
    with monkeypatch.context() as patch:
        crash = stop_after(patch, 5)
        with pytest.raises(crash):
            run(recipe, quiet=True)
    base = Path(recipe.model) / "model.safetensors"
    original = base.read_bytes()
    try:
        if what == "recipe":
            recipe = recipe_for(lora__alpha=8.0)
            recipe = recipe.model_copy(
                update={"lora": recipe.lora.model_copy(update={"rank": 2, "alpha": 8.0})}
            )
        elif what == "data":
            file = tmp_path / "train.jsonl"
            file.write_text(file.read_text().replace("the", "a", 1))
        else:
            save_file({k: v * 1.5 for k, v in load_file(base).items()}, base, {"format": "pt"})
        with pytest.raises(ResumeError, match=message):
            run(recipe, resume=True, quiet=True)
        if what != "base":
            assert run(recipe, resume=True, force=True, quiet=True).metrics["step"] > 0
    finally:
        base.write_bytes(original)


def test_a_folder_with_a_run_needs_the_word_resume(recipe_for):
    run(recipe_for(), quiet=True)
    with pytest.raises(LorakitError, match="--resume"):
        run(recipe_for(), quiet=True)


def test_a_loss_that_is_not_finite_stops_at_once(recipe_for, monkeypatch):
    recipe = recipe_for()
    original = Trainer.training_step

    def poisoned(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 6 else loss

    monkeypatch.setattr(Trainer, "training_step", poisoned)
    with pytest.raises(TrainingError, match="loss is nan at step 7"):
        run(recipe, quiet=True)
    newest, _ = checkpoint.newest(Path(recipe.output) / "checkpoints")
    assert newest is not None
    assert checkpoint.step_of(newest) == 6
    assert "loss is nan" in (Path(recipe.output) / "log.txt").read_text()


def test_one_process_trains_on_one_device_of_several(recipe_for, monkeypatch):
    class Two(TrainingArguments):
        def __post_init__(self):
            super().__post_init__()
            self._n_gpu = 2

    monkeypatch.setattr("lorakit.train.setup.TrainingArguments", Two)
    recipe = recipe_for()
    found = arguments(recipe, 10, best=None, device="cpu")
    assert found.train_batch_size == recipe.train.batch_size


def test_a_plain_error_is_the_last_word_of_the_log(recipe_for, monkeypatch):
    def starved(self, *args, **kwargs):
        raise MemoryError("no room for 4 GB\nand a page about it")

    monkeypatch.setattr(Trainer, "training_step", starved)
    with pytest.raises(MemoryError):
        run(recipe_for(), quiet=True)
    (found,) = runs(recipe_for().output)
    assert (found.state, found.error) == ("failed", "MemoryError: no room for 4 GB")


def test_a_base_with_an_infinite_weight_stops_at_once(recipe_for, bases):
    base = Path(bases["llama"]) / "model.safetensors"
    original = base.read_bytes()
    tensors = load_file(base)
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("inf")
    save_file(tensors, base, {"format": "pt"})
    try:
        with pytest.raises(TrainingError, match="at step 1"):
            run(recipe_for(), quiet=True)
    finally:
        base.write_bytes(original)


def test_weights_that_explode_stop_at_once(recipe_for):
    with pytest.raises(TrainingError, match="last checkpoint is good"):
        run(recipe_for(train__lr=1e38, train__clip=0, train__schedule="constant"), quiet=True)


def test_ctrl_c_saves_and_resumes(recipe_for, tmp_path, monkeypatch):
    whole = run(recipe_for(output=str(tmp_path / "whole")), quiet=True)
    recipe = recipe_for()

    class Press(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 4:
                os.kill(os.getpid(), signal.SIGINT)

    original = run_module.make_trainer

    def pressed(*args, **kwargs):
        trainer = original(*args, **kwargs)
        trainer.add_callback(Press())
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "make_trainer", pressed)
        with pytest.raises(TrainingError, match="Stopped after step 5"):
            run(recipe, quiet=True)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = run(recipe, resume=True, quiet=True)
    assert adapter_bytes(resumed.folder) == adapter_bytes(whole.folder)


@pytest.mark.parametrize(
    ("task", "family"),
    [
        ("classification", "bert"),
        ("regression", "llama"),
        ("seq2seq", "t5"),
        ("completion", "llama"),
    ],
)
def test_batches_add_up_to_what_one_would_be(task, family, recipe_for, tmp_path):
    first = []
    for number, changes in enumerate(({}, {"train__batch_size": 1, "train__accumulate": 4})):
        recipe = recipe_for(
            task, family, lora__dropout=0.0, train__steps=1, train__clip=0.0,
            output=str(tmp_path / str(number)), **changes,
        )  # fmt: skip
        events = read_events(run(recipe, quiet=True).folder / "events.jsonl")
        first.append(next(event for event in events if "loss" in event))
    for name in ("loss", "grad_norm"):  # the bases' own dropout is drawn by the batch's shape
        assert first[1][name] == pytest.approx(first[0][name], rel=0.15), name


def test_patience_stops_early_and_a_resumed_run_knows_it(recipe_for, monkeypatch):
    recipe = recipe_for(
        train__lr=3.0, train__patience=1, train__eval_every=2, train__steps=40, train__warmup=0.0
    )
    result = run(recipe, quiet=True)
    last = max(event["step"] for event in read_events(result.folder / "events.jsonl"))
    assert last < 40
    assert result.metrics["step"] == last - 2
    expected = adapter_bytes(result.folder)
    stop_after(monkeypatch, last)
    assert adapter_bytes(run(recipe, resume=True, quiet=True).folder) == expected


def test_patience_goes_by_a_folders_own_split(recipe_for, tmp_path):
    changes = {"train__patience": 1, "train__steps": 4}
    recipe_for()  # writes the rows
    (tmp_path / "both").mkdir()
    for name, split in (("train", "train"), ("eval", "dev")):
        (tmp_path / f"{name}.jsonl").rename(tmp_path / "both" / f"{split}.jsonl")
    data = {"train": str(tmp_path / "both"), "max_length": 48}
    assert "eval_loss" in run(recipe_for(data=data, **changes), quiet=True).metrics
    (tmp_path / "both" / "dev.jsonl").unlink()
    with pytest.raises(RecipeError, match="no evaluation rows"):
        run(recipe_for(data=data, output=str(tmp_path / "other"), **changes), quiet=True)
    assert not (tmp_path / "other").exists()


def test_the_best_state_is_the_one_that_is_kept(recipe_for):
    recipe = recipe_for(
        train__lr=3.0, train__eval_every=2, train__keep=1, train__schedule="constant"
    )
    result = run(recipe, quiet=True)
    events = read_events(result.folder / "events.jsonl")
    losses = {event["step"]: event["eval_loss"] for event in events if "eval_loss" in event}
    best = min(losses, key=losses.__getitem__)
    assert result.metrics["step"] == best
    saved = load_file(result.adapter / "adapter_model.safetensors")
    kept = checkpoint.path_for(result.folder / "checkpoints", best)
    assert all(
        torch.equal(value, saved[key])
        for key, value in load_file(kept / "adapter_model.safetensors").items()
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_bases_in_half_precision_keep_float32_adapters(precision, recipe_for):
    result = run(recipe_for(train__precision=precision, train__lr=2e-3), quiet=True)
    tensors = load_file(result.adapter / "adapter_model.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float32}


def test_checkpointing_changes_nothing_but_memory(recipe_for, tmp_path):
    plain = run(recipe_for(lora__dropout=0.0), quiet=True)
    saving = run(
        recipe_for(lora__dropout=0.0, train__checkpointing=True, output=str(tmp_path / "saving")),
        quiet=True,
    )
    for key, value in load_file(plain.adapter / "adapter_model.safetensors").items():
        other = load_file(saving.adapter / "adapter_model.safetensors")[key]
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6)


def test_two_processes_cannot_train_in_one_folder(recipe_for, tmp_path):
    (tmp_path / "run").mkdir()
    with owned(tmp_path / "run"), pytest.raises(TrainingError, match="Another process"):
        run(recipe_for(), quiet=True)


def test_the_trainer_serves_any_model_that_was_injected(bases, tmp_path):
    model = load_base(bases["llama"], "causal").model
    plan = lk.plan(model, "q", 2)
    lk.inject(model, plan, name="mine")
    rows = [{"input_ids": torch.arange(5, 15), "labels": torch.arange(5, 15)} for _ in range(8)]
    arguments = TrainingArguments(
        str(tmp_path / "out"), max_steps=4, save_steps=2, per_device_train_batch_size=2,
        report_to="none", use_cpu=True, disable_tqdm=True, log_level="error",
    )  # fmt: skip
    trainer = AdapterTrainer(model, arguments, train_dataset=rows)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    other = load_base(bases["llama"], "causal").model
    lk.load(other, tmp_path / "saved")
    lk.load(other, tmp_path / "out" / "checkpoint-4", name="from a checkpoint")


def test_the_trainer_needs_one_active_adapter(bases):
    model = load_base(bases["llama"], "causal").model
    with pytest.raises(LorakitError, match="no adapters"):
        AdapterTrainer(model)
    lk.inject(model, lk.plan(model, "q", 2), name="mine")
    lk.activate(model)
    with pytest.raises(TrainingError, match="active are none"):
        AdapterTrainer(model)


def test_an_adapter_that_training_cannot_reach_is_named(bases, tmp_path):
    model = load_base(bases["llama"], "causal").model
    model.spare = torch.nn.Linear(4, 4)
    lk.inject(model, {**lk.plan(model, "q", 2), "spare": 2})
    rows = [{"input_ids": torch.arange(5, 15), "labels": torch.arange(5, 15)} for _ in range(4)]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True
    )
    with pytest.raises(DeadAdapterError, match="spare A"):
        AdapterTrainer(model, arguments, train_dataset=rows).train()


@pytest.mark.parametrize("how", ["nf4", "int8", "torchao-int8"])
def test_a_quantised_base_is_trained_resumed_and_asked(how, recipe_for, tmp_path):
    changes = {
        "lora__rank": {"*.layers.0-0.*": 2, "*.layers.1-*": 3, "*": 1},
        "lora__targets": ["all-linear", "norms"],
        "train__quantise": how,
    }
    whole = run(recipe_for(**changes), quiet=True)
    events = read_events(whole.folder / "events.jsonl")
    losses = [event["loss"] for event in events if "loss" in event]
    assert losses[-1] < losses[0]
    again = run(recipe_for(**changes, output=str(tmp_path / "two")), quiet=True)
    files = [r.adapter / "adapter_model.safetensors" for r in (whole, again)]
    assert files[0].read_bytes() == files[1].read_bytes()
    session = open_session([str(whole.adapter)], device="cpu")
    layer = session.model.model.layers[0].mlp.up_proj
    assert is_quantised(layer)
    assert layer.lora.a0["low_rank"].rank == 2
    assert session.model.model.layers[1].mlp.up_proj.lora.a0["low_rank"].rank == 3
    full = open_session([str(whole.adapter)], device="cpu", quantise="none")
    assert not is_quantised(full.model.model.layers[0].mlp.up_proj)


@pytest.mark.parametrize("init", ["eva", "lora-ga", "loftq", "pissa"])
def test_a_start_of_the_recipe_is_trained_and_resumed(init, recipe_for, tmp_path, monkeypatch):
    changes = {"lora__init": init, "lora__init_rows": 8, "lora__dropout": 0.0}
    if init == "loftq":
        changes["train__quantise"] = "nf4"
    whole = run(recipe_for(**changes), quiet=True)
    recipe = recipe_for(**changes, output=str(tmp_path / "stopped"))
    with monkeypatch.context() as patch:
        crash = stop_after(patch, 5)
        with pytest.raises(crash):
            run(recipe, quiet=True)
    resumed = run(recipe, resume=True, quiet=True)
    assert adapter_bytes(resumed.folder) == adapter_bytes(whole.folder)


def test_loftq_wants_a_quantised_base(recipe_for):
    with pytest.raises(LorakitError, match=r"train\.quantise"):
        recipe_for(lora__init="loftq")


def test_evaluation_rows_that_were_found_beside_the_others_are_part_of_the_run(tmp_path):
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a"}\n')
    raw = {"model": "x", "task": "text", "data": {"train": str(tmp_path)}, "output": "x"}
    assert hash_data(make_recipe(raw)).keys() == {"train", "eval"}
