"""Makes the tiny base model of the demo: tokenizer, training from scratch, saved folder.

    python scripts/demo_base/train.py --out src/lorakit/demo/base

The text is generated (see text.py), so nothing is downloaded. For a given seed, torch version and
number of threads the result is the same.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from text import documents
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
# A capital letter is a piece of its own, so that a word has the same pieces at the start of a
# sentence and inside one; copying a name then means repeating the same tokens.
PIECES = r" ?\p{Lu}| ?\p{Ll}+| ?\p{N}|\n| ?[^\s\p{L}\p{N}]+"
LETTERS = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Settings:
    """Shape of the model and course of the training."""

    vocabulary: int = 2560
    width: int = 192
    layers: int = 6
    heads: int = 4
    inner: int = 416
    positions: int = 512
    theta: float = 10_000.0
    tokens: int = 30_000_000
    batch_tokens: int = 3072
    rate: float = 3e-3
    warm_up: int = 200
    weight_decay: float = 0.1
    seed: int = 0
    threads: int = 1


def train_tokenizer(settings: Settings) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the generated text; any text comes back as it was."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_texts(settings.seed + 1), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=settings.positions,
    )


def tokenizer_texts(seed: int, count: int = 30_000, common: int = 20) -> Iterator[str]:
    """Documents without nine in ten of their rare words.

    Rare words are the invented ones. They shall be written with pieces of ordinary words, and not
    use up the vocabulary.
    """
    texts = list(islice(documents(seed), count))
    counts = Counter(word for text in texts for word in LETTERS.findall(text))
    rng = random.Random(seed)

    def keep(match: re.Match[str]) -> str:
        rare = counts[match[0]] < common
        return "" if rare and rng.random() < 0.9 else match[0]

    return (LETTERS.sub(keep, text) for text in texts)


def new_model(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model; layers that write to the residual stream start smaller."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.inner,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.positions,
        rope_parameters={"rope_type": "default", "rope_theta": settings.theta},
        tie_word_embeddings=True,
        attn_implementation="eager",  # on a CPU faster for sequences this short
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.data.div_(math.sqrt(2 * settings.layers))
    return model


def token_lists(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[list[list[int]]]:
    """Pools of tokenized documents, each with a start and an end token."""
    source = documents(seed)
    while True:
        texts = [text + EOS for text in islice(source, 2048)]
        yield tokenizer(texts, truncation=True)["input_ids"]


def batches(
    settings: Settings, tokenizer: PreTrainedTokenizerFast, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless padded batches of documents of like length, with their labels."""
    rng = random.Random(seed)
    for pool in token_lists(tokenizer, seed):
        # The random key mixes the order of documents whose lengths differ little.
        pool.sort(key=lambda ids: len(ids) + rng.random() * 8)
        groups: list[list[list[int]]] = [[]]
        for ids in pool:
            if len(groups[-1]) * max(map(len, [*groups[-1][-8:], ids])) > settings.batch_tokens:
                groups.append([])
            groups[-1].append(ids)
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, tokenizer.pad_token_id)


def collate(group: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Input ids padded on the right, and labels that ignore the padding."""
    longest = max(map(len, group))
    inputs = torch.full((len(group), longest), pad)
    labels = torch.full((len(group), longest), -100)
    for row, ids in enumerate(group):
        inputs[row, : len(ids)] = torch.tensor(ids)
        labels[row, : len(ids)] = torch.tensor(ids)
    return inputs, labels


def rate_at(settings: Settings, step: int, done: float) -> float:
    """Linear warm-up by steps, then a cosine to zero by the share of tokens done."""
    return settings.rate * min(
        (step + 1) / settings.warm_up, 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    )


def optimizer_for(model: LlamaForCausalLM, settings: Settings) -> torch.optim.AdamW:
    """AdamW without weight decay on the norms."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), eps=1e-9)


def train(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, settings: Settings
) -> LlamaForCausalLM:
    """Trains on generated text until the token budget is spent."""
    optimizer = optimizer_for(model, settings)
    seen, losses, start = 0, [], time.monotonic()
    for step, (inputs, labels) in enumerate(batches(settings, tokenizer, settings.seed + 2)):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(settings, step, seen / settings.tokens)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=inputs, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seen += int((labels != -100).sum())
        if step % 100 == 99:
            report(step, losses[-100:], seen, settings.tokens, time.monotonic() - start)
        if seen >= settings.tokens:
            return model
    raise AssertionError("the batches have no end")


def report(step: int, losses: list[float], seen: int, budget: int, seconds: float) -> None:
    """One line on the course of the training."""
    speed = seen / seconds
    left = max(budget - seen, 0) / speed / 60
    mean = sum(losses) / len(losses)
    print(
        f"step {step + 1}  loss {mean:.3f}  {seen / 1e6:.1f} M tokens  {speed:.0f} tokens/s  "
        f"{left:.1f} min left",
        flush=True,
    )


@torch.no_grad()
def held_out_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, settings: Settings
) -> float:
    """Mean loss per token on documents of another seed, in float32."""
    total = count = 0.0
    for inputs, labels in islice(batches(settings, tokenizer, settings.seed + 3), 30):
        tokens = int((labels[:, 1:] != -100).sum())
        total += model(input_ids=inputs, labels=labels, use_cache=False).loss.item() * tokens
        count += tokens
    return total / count


def samples(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> list[str]:
    """Stories sampled from the model."""
    torch.manual_seed(1)
    prompt = tokenizer(["Once there was a"] * count, return_tensors="pt")
    ids = model.generate(
        **prompt, max_new_tokens=200, do_sample=True, temperature=0.7, top_p=0.95, top_k=0
    )
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """The folder as `from_pretrained` reads it, weights in bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)
    # The name of the class that every release of transformers knows.
    path = out / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("backend", None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokens", type=int, default=Settings.tokens, help="training tokens")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--threads", type=int, default=Settings.threads)
    return parser.parse_args()


def main() -> None:
    """Trains, saves, and shows what came of it."""
    given = arguments()
    settings = Settings(tokens=given.tokens, seed=given.seed, threads=given.threads)
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer(settings)
    model = new_model(settings, tokenizer)
    print(f"{model.num_parameters()} parameters, {len(tokenizer)} tokens in the vocabulary")
    train(model.train(), tokenizer, settings)
    print(f"held-out loss {held_out_loss(model.eval(), tokenizer, settings):.4f}")
    save(model, tokenizer, given.out)
    saved = LlamaForCausalLM.from_pretrained(given.out, dtype=torch.float32).eval()
    print(f"held-out loss as saved {held_out_loss(saved, tokenizer, settings):.4f}")
    for text in samples(saved, tokenizer, 5):
        print(f"\n{text}")


if __name__ == "__main__":
    main()
