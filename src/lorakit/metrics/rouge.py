"""ROUGE (Lin 2004) by rouge-score: F1, the mean over rows, from 0 to 100.

`rouge_1` and `rouge_2` count n-grams; `rouge_l` is the longest common subsequence of the two whole
texts (section 3.1), `rouge_lsum` the union of those of their sentences, one on each line (section
3.2). Of several references the best one counts. Words are runs of a to z and 0 to 9 in lower case,
not stemmed: "Café" is "caf". The form for captions, another formula, is in `rouge_coco.py`.
"""

from __future__ import annotations

from lorakit.metrics.text import TextMetric, mean_metric, need, version


def _metric(kind: str) -> TextMetric:
    def rows(answers: list[str], references: list[list[str]]) -> list[float]:
        scorer = need("rouge_score.rouge_scorer", "rouge-score")
        # A tokenizer of one's own is rouge-score's only way not to log which one it took.
        words = need("rouge_score.tokenizers", "rouge-score").DefaultTokenizer(use_stemmer=False)
        rouge = scorer.RougeScorer([kind], tokenizer=words)
        return [
            100 * float(rouge.score_multi(texts, answer)[kind].fmeasure)
            for answer, texts in zip(answers, references)
        ]

    def describe(count: str) -> str:
        need("rouge_score.rouge_scorer", "rouge-score")
        return f"rouge-score {kind}|nrefs:{count}|best of references|stemmer:no|version:" + version(
            "rouge-score"
        )

    return mean_metric(rows, describe)


rouge_1 = _metric("rouge1")
rouge_2 = _metric("rouge2")
rouge_l = _metric("rougeL")
rouge_lsum = _metric("rougeLsum")
