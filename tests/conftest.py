"""What all tests share: the shipped model, two threads, fixed seeds."""

import os
import random

import pytest
import tqdm  # noqa: F401 - it reads the environment as it is imported: bars go on here, as tests look at them

# Kernels of notebooks draw none, as in `mini-lib chapters run`: a bar of a slow machine would be output that differs.
os.environ["TQDM_DISABLE"] = "1"


@pytest.fixture(scope="session")
def mllm():
    """`tiny` on the CPU, loaded once for the whole run. Tests must leave it as they found it."""
    import torch

    from mini_lib import load
    torch.set_num_threads(2)
    return load(device="cpu")


@pytest.fixture(autouse=True)
def seeds():
    """The same random numbers for each test, whatever ran before it."""
    import sys
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
