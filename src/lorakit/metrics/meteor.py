"""METEOR (Lavie and Agarwal 2007) by nltk, the mean over rows of the best reference, 0 to 100.

Words match as they are, by Porter stem or as synonyms of WordNet; alpha 0.9, beta 3, gamma 0.5.
nltk looks synonyms up by what stemming left ("felin"), so that it finds those of short words alone.
WordNet is data that nltk does not carry: where it is missing the metric is refused, as a METEOR
without synonyms would be another one. METEOR 1.5 (Java), which the E2E challenge and Hu et al. 2022
report, has paraphrases and other weights: figures cannot be compared with it.
"""

from __future__ import annotations

from typing import Any

from lorakit.core.errors import DataError, MissingExtraError
from lorakit.metrics.text import mean_metric, need, version
from lorakit.metrics.words import caption_words


def wordnet() -> Any:
    """WordNet as nltk reads it, or a typed error that says how to get it."""
    reader = need("nltk.corpus", "nltk").wordnet
    try:
        reader.ensure_loaded()
    except LookupError as error:
        raise DataError(
            "METEOR needs the data of WordNet, which nltk does not find: "
            "python -m nltk.downloader wordnet, or name a folder that has it in NLTK_DATA."
        ) from error
    return reader


def available() -> bool:
    """Whether METEOR can be computed: nltk is installed and finds WordNet."""
    try:
        wordnet()
    except (DataError, MissingExtraError):
        return False
    return True


def meteor_rows(answers: list[str], references: list[list[str]], words: Any) -> list[float]:
    """The best METEOR of each row, with these synonyms (an object with WordNet's `synsets`)."""
    nltk = need("nltk.translate.meteor_score", "nltk")
    return [
        100
        * nltk.meteor_score(list(map(caption_words, texts)), caption_words(answer), wordnet=words)
        for answer, texts in zip(answers, references)
    ]


def _rows(answers: list[str], references: list[list[str]]) -> list[float]:
    return meteor_rows(answers, references, wordnet())


def _describe(count: str) -> str:
    return (
        f"nltk METEOR|nrefs:{count}|alpha:0.9|beta:3|gamma:0.5|WordNet:{wordnet().get_version()}"
        f"|tok:captions|version:{version('nltk')}"
    )


meteor = mean_metric(_rows, _describe)
