"""What the paper of LoRA reports on benchmarks, to stand beside what was measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorakit.study.table import Column, Table

Row = tuple[float | None, ...]
# Names of theirs that are not ours, by the row that bears them.
_KINDS = {
    "adapter D": "adapter D drops the bottlenecks of some blocks (Rücklé et al. 2020)",
    "adapter L": "adapter L is nearly pfeiffer (Lin et al. 2020)",
    "prefix": "prefix is theirs, which replaces the activations of some tokens in every block",
}


@dataclass(frozen=True)
class Reported:
    """One table: what was trained, its columns with their digits, and a row for each method.

    The first figure of a row is its trained parameters in millions.
    """

    base: str
    columns: Sequence[tuple[str, int]]
    rows: Sequence[tuple[str, Row]]

    def table(self, name: str, title: str, places: Sequence[int]) -> Table:
        """The columns at these places as a table of quotations."""
        columns = [
            Column("method"), Column("trained parameters", "M", digits=2, quoted=True),
            *(Column(self.columns[i][0], digits=self.columns[i][1], quoted=True) for i in places),
        ]  # fmt: skip
        rows = [[method, size, *(of[i] for i in places)] for method, (size, *of) in self.rows]
        kinds = [told for kind, told in _KINDS.items() if any(kind == row[0] for row in rows)]
        notes = [
            f"{self.base}. Another base and more training: differences between methods can be "
            "compared, levels cannot.",
            *([f"{'; '.join(kinds)}."] if kinds else []),
        ]
        return Table(name, title, columns, rows, notes)


GLUE = ("sst2", "stsb", "mrpc", "cola", "rte", "mnli", "qnli", "qqp")
TABLE_2 = Reported(
    "RoBERTa base (125 M) on all training rows, up to 80 passes; LoRA began from its adapter of "
    "MNLI on MRPC, RTE and STS-B (Hu et al. 2021, table 2 and appendix D.1)",
    [(name, 1) for name in GLUE],
    [
        ("full", (125.0, 94.8, 91.2, 90.2, 63.6, 78.7, 87.6, 92.8, 91.9)),
        ("bitfit", (0.1, 93.7, 90.8, 92.7, 62.0, 81.5, 84.7, 91.8, 84.0)),
        ("adapter D", (0.3, 94.2, 89.7, 88.5, 60.8, 71.5, 87.1, 93.1, 90.2)),
        ("adapter D", (0.9, 94.7, 90.3, 88.4, 62.6, 75.9, 87.3, 93.0, 90.6)),
        ("lora", (0.3, 95.1, 91.5, 89.7, 63.4, 86.6, 87.5, 93.3, 90.8)),
    ],
)
_MEDIUM = "GPT-2 medium (355 M), five passes, written with ten beams (Hu et al. 2021, table {})"
# METEOR and TER of tables 13 and 14 times 100, as they are here.
TEXTS = {
    "e2e": Reported(
        _MEDIUM.format(3),
        [("BLEU", 1), ("NIST", 2), ("METEOR", 1), ("ROUGE-L", 1), ("CIDEr", 2)],
        [
            ("full", (354.92, 68.2, 8.62, 46.2, 71.0, 2.47)),
            ("top", (25.19, 68.1, 8.59, 46.0, 70.8, 2.41)),
            ("adapter L", (0.37, 66.3, 8.41, 45.0, 69.8, 2.40)),
            ("adapter L", (11.09, 68.9, 8.71, 46.1, 71.3, 2.47)),
            ("houlsby", (11.09, 67.3, 8.50, 46.0, 70.7, 2.44)),
            ("prefix", (0.35, 69.7, 8.81, 46.1, 71.4, 2.49)),
            ("lora", (0.35, 70.4, 8.85, 46.8, 71.8, 2.53)),
        ],
    ),
    "dart": Reported(
        _MEDIUM.format(13),
        [("BLEU", 1), ("METEOR", 0), ("TER", 0)],
        [
            ("full", (354.0, 46.2, 39, 46)),
            ("top", (24.0, 41.0, 34, 56)),
            ("adapter L", (0.37, 42.4, 36, 48)),
            ("adapter L", (11.0, 45.2, 38, 46)),
            ("prefix", (0.35, 46.4, 38, 46)),
            ("lora", (0.35, 47.1, 39, 46)),
        ],
    ),
    "webnlg": Reported(
        f"{_MEDIUM.format(14)}, all categories",
        [("BLEU", 1), ("METEOR", 0), ("TER", 0)],
        [
            ("full", (354.0, 46.5, 38, 53)),
            ("top", (24.0, 36.0, 31, 72)),
            ("adapter L", (0.37, 50.2, 38, 43)),
            ("adapter L", (11.0, 54.9, 41, 39)),
            ("prefix", (0.35, 55.1, 41, 40)),
            ("lora", (0.35, 55.3, 41, 39)),
        ],
    ),
}  # fmt: skip


def quotations(tasks: Sequence[str]) -> list[Table]:
    """Tables of what the paper reports on these benchmarks; none for any other."""
    found = []
    places = [GLUE.index(own[5:]) for own in tasks if own[:5] == "glue/" and own[5:] in GLUE]
    if places:
        found.append(TABLE_2.table("paper", "What the paper reports on GLUE", places))
    for task in tasks:
        if task in TEXTS:
            own = TEXTS[task]
            title = f"What the paper reports on {task}"
            found.append(own.table(f"paper-{task}", title, range(len(own.columns))))
    return found
