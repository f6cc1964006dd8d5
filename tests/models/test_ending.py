"""The token that ends a text: known or refused, and replaced where no adapter could learn it."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, set_seed

from families import CONFIGS
from lorakit.core.errors import RecipeError
from lorakit.demo import base_folder
from lorakit.models.ending import TWINS, check_end, learnable_end
from lorakit.models.load import load_tokenizer


@pytest.fixture
def tokenizer():
    return load_tokenizer(str(base_folder()))


def model_for(tokenizer, *, tied: bool, untrained: tuple[int, ...] = ()):
    """A random Llama in which the head's rows of some tokens are alike."""
    config = CONFIGS["llama"]()
    config.vocab_size, config.tie_word_embeddings = len(tokenizer), tied
    set_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        rows = model.get_output_embeddings().weight
        rows[list(untrained)] = rows[untrained[0]].clone() if untrained else rows[[]]
    return model


def test_a_token_like_any_other_stays(tokenizer):
    assert learnable_end(model_for(tokenizer, tied=True), tokenizer) == ("</s>", "")


@pytest.mark.parametrize("tied", [True, False])
def test_an_untrained_end_is_replaced_by_the_start(tokenizer, tied):
    end = tokenizer.eos_token_id
    model = model_for(tokenizer, tied=tied, untrained=(end, *range(10, 10 + TWINS)))
    token, why = learnable_end(model, tokenizer)
    assert token == "<s>"
    assert f"'</s>' from {TWINS} other tokens" in why
    assert "data.end" in why


def test_one_like_it_is_no_proof(tokenizer):
    model = model_for(tokenizer, tied=True, untrained=(tokenizer.eos_token_id, 0))
    assert learnable_end(model, tokenizer) == ("</s>", "")


def test_rows_that_a_bias_tells_apart_differ(tokenizer):
    end = tokenizer.eos_token_id
    model = model_for(tokenizer, tied=False, untrained=(end, 10, 11, 12))
    head = model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
    assert learnable_end(model, tokenizer)[0] == "<s>"
    head.bias.data[end] = 1.0
    assert learnable_end(model, tokenizer) == ("</s>", "")


def test_where_nothing_else_was_trained_it_says_so(tokenizer):
    both = (tokenizer.eos_token_id, tokenizer.bos_token_id, 10, 11, 12)
    token, why = learnable_end(model_for(tokenizer, tied=True, untrained=both), tokenizer)
    assert token == "</s>"
    assert "will not learn to end a text" in why


def test_no_adapter_below_the_head_tells_such_tokens_apart(tokenizer):
    """What the replacement rests on: equal rows score equally from any hidden state."""
    end = tokenizer.eos_token_id
    model = model_for(tokenizer, tied=True, untrained=(end, 10, 11, 12))
    logits = model.get_output_embeddings()(torch.randn(50, model.config.hidden_size))
    assert torch.equal(logits[:, end], logits[:, 11])


def test_an_unknown_end_is_named_with_the_known_ones(tokenizer):
    check_end(tokenizer, "<s>")
    with pytest.raises(RecipeError, match="'<end>' is no token") as raised:
        check_end(tokenizer, "<end>")
    assert "</s>" in str(raised.value)
