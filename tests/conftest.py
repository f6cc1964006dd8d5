"""Every test is offline and on one thread, so that what it measures is the same everywhere."""

from __future__ import annotations

import logging
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch
import transformers

torch.set_num_threads(1)
# A line for each layer and step, to say that inputs are cast.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real models and data sets, where it stands beside the repository."""
    if not REAL.is_dir():
        pytest.skip("no real models and data sets beside the repository")
    return REAL


@pytest.fixture(autouse=True)
def no_graphs_of_others():
    """Dynamo compiles one function a few times only, and other tests may have used them up."""
    yield
    torch.compiler.reset()
