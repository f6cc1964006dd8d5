"""An answer that is streamed is the answer."""

from __future__ import annotations

import itertools
import threading

import pytest

from lorakit.core.errors import LorakitError, RecipeError
from lorakit.demo import base_folder
from lorakit.eval.generate import Decoding, generate
from lorakit.eval.session import open_session
from lorakit.eval.stream import stream


@pytest.fixture(scope="module")
def session():
    return open_session([], model=str(base_folder()), device="cpu")


@pytest.mark.parametrize("options", [
    {}, {"temperature": 0.8, "seed": 3}, {"stop": " the"}, {"no_repeat_ngram": 2},
])  # fmt: skip
def test_it_grows_to_what_generate_gives(session, options):
    model, tokenizer = session.model, session.tokenizer
    decoding = Decoding(max_new_tokens=24, **options)
    parts = list(stream(model, tokenizer, "Once there was a fox", decoding))
    assert len(parts) > 3
    assert all(two.startswith(one) for one, two in itertools.pairwise(parts))
    same = {name: value for name, value in options.items() if name != "no_repeat_ngram"}
    if "no_repeat_ngram" not in options:
        prompts = ["Once there was a fox"]
        assert generate(model, tokenizer, prompts, max_new_tokens=24, **same) == [parts[-1]]


def test_who_leaves_ends_it(session):
    answer = stream(session.model, session.tokenizer, "Once", Decoding(max_new_tokens=400))
    next(answer)
    answer.close()
    assert not [own for own in threading.enumerate() if own.name == "lorakit-stream"]


def test_what_the_model_raises_is_raised_here(session):
    with pytest.raises(LorakitError) as error:
        list(stream(session.model, session.tokenizer, "Once", Decoding(), adapters=["none"]))
    assert "no adapters" in str(error.value)
    with pytest.raises(RecipeError, match="Beams"):
        list(stream(session.model, session.tokenizer, "Once", Decoding(beams=2)))
