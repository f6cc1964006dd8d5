"""BLEU (Papineni et al. 2002) of a corpus, with the tokens of mteval-v13a, from 0 to 100.

`bleu` is sacrebleu's default: case counts, and an order without a match is smoothed ("exp").
`bleu_e2e` is what the measure script of the E2E challenge reports (Novikova et al. 2017; Hu et al.
2022, Table 3): the same tokens and the same closest reference length, but in lower case and
without smoothing.
"""

from __future__ import annotations

from lorakit.metrics.sacre import sacrebleu_metric

# force: sacrebleu else warns of answers that end in " .", which models of tokenised text write.
bleu = sacrebleu_metric("BLEU", {"force": True})
bleu_e2e = sacrebleu_metric("BLEU", {"force": True, "lowercase": True, "smooth_method": "none"})
