"""Studies: questions that are answered by many measurements, with statistics and a report."""

from __future__ import annotations

from lorakit.study.budget import Budget
from lorakit.study.forgetting import Forgetting
from lorakit.study.kinds import Study
from lorakit.study.latency import Latency
from lorakit.study.memory import Memory
from lorakit.study.methods import Methods
from lorakit.study.placement import Placement
from lorakit.study.rank import Rank
from lorakit.study.regret import Regret
from lorakit.study.subspace import Subspace

STUDIES: dict[str, Study] = {
    own.name: own
    for own in (
        Methods(),
        Rank(),
        Placement(),
        Latency(),
        Memory(),
        Subspace(),
        Regret(),
        Forgetting(),
        Budget(),
    )
}
