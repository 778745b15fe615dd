"""What all tests share: the shipped model, two threads, fixed seeds."""

import random

import pytest


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
