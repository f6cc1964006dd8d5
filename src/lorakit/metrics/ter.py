"""Translation edit rate (Snover et al. 2006): edits and shifts for 100 reference words.

Lower is better; more than 100 is possible. The fewest edits over a row's references are divided by
their mean length. Words are split at spaces and lower-cased, as in tercom's default. The search
for shifts takes some 30 ms for each reference of 20 words.
"""

from __future__ import annotations

from lorakit.metrics.sacre import sacrebleu_metric

ter = sacrebleu_metric("TER", {}, higher_is_better=False)
