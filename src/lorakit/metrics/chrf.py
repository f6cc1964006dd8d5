"""chrF and chrF++ of a corpus (Popović 2015, 2017): F2 over character n-grams, from 0 to 100.

Character orders 1 to 6 without whitespace, and for chrF++ word orders 1 and 2 as well. Of several
references the one with the best score of the row counts.
"""

from __future__ import annotations

from lorakit.metrics.sacre import sacrebleu_metric

chrf = sacrebleu_metric("CHRF", {})
chrf_pp = sacrebleu_metric("CHRF", {"word_order": 2})
