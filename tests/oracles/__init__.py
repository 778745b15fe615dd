"""Oracles: what mini_lib computes, against what maintained libraries compute, on the same model (`tiny`) and prompt.

    python -m tests.oracles            # a Markdown table of the largest differences; --json for plain data
    pytest tests/oracles               # the same, with the limits asserted

The libraries are the extra `compare` of pyproject.toml; what is not installed is skipped, and said to be.
Each comparison is a function in one of the `with_*` modules; its docstring says what is compared, and where a library is wrong
or means something else.  TransformerLens is left out on purpose: its bridge runs `pip install torchvision` when that is
missing, which can replace torch (`TransformerBridge.boot_transformers`, 4.3.0); nnsight is the second opinion on the lens.
"""
