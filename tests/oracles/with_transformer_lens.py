"""TransformerLens: the stream cached, and attention's scores cut, by hooks of its own."""

from mini_lib.bench_others import WIDTH, transformer_lens
from mini_lib.registry import find

from .pairs import pair


def theirs(on, slug):
    work, = (function for (one, _), function in transformer_lens(on.mllm, on.prompt, on.target).items() if one == slug)
    return work().values


@pair("transformer_lens", "logit-lens", "run_with_cache", 1e-5)
def logit_lens(on):
    """Probability of the answer's first word at each image token, before block 0 and after every block, in eager attention."""
    return find("logit-lens").explain(on.mllm, on.prompt, on.target).word_chance, theirs(on, "logit-lens")


@pair("transformer_lens", "attention-knockout, image to question", "hooks on attn_scores", 1e-3)
def knockout(on):
    """Windows of two blocks: scores from the question's words to image tokens set to minus infinity, a row of the batch for each."""
    return find("attention-knockout").explain(on.mllm, on.prompt, on.target, width=WIDTH).values[0], theirs(on, "attention-knockout")
