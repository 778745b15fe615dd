"""How the answer comes about, layer by layer, on pairs of prompts that differ in one thing. One module per method."""
