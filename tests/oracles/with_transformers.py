"""transformers itself, by its own switches: `output_attentions` and `output_hidden_states`, on a second copy with eager attention."""

import torch

from mini_lib import load
from mini_lib.registry import find

from .pairs import pair


def own(on, **switch):
    model = load(device="cpu", attn_implementation="eager").model
    model.set_attn_implementation("eager")                       # without mini_lib's attention function
    with torch.no_grad():
        return model, model(**on.mllm.forced(on.prompt, on.target), **switch)


@pair("transformers", "attention-rollout", "output_attentions, multiplied", 1e-5)
def rollout(on):
    """With sdpa attention the switch gives a warning and nothing to multiply."""
    _, found = own(on, output_attentions=True)
    rows = torch.eye(found.attentions[0].shape[-1])
    for layer in found.attentions:
        rows = (layer[0].mean(0) + torch.eye(len(rows))) / 2 @ rows
    said = len(on.target.ids) - on.target.first
    return on.tokens(find("attention-rollout").explain(on.mllm, on.prompt, on.target)), on.gathered(rows[-said:].mean(0))


@pair("transformers", "logit-lens", "output_hidden_states, unembedded", 1e-5)
def lens(on):
    """The last of `hidden_states` is normed already and must not be normed again; all the others must be."""
    model, found = own(on, output_hidden_states=True)
    ours, (*inner, last) = find("logit-lens").explain(on.mllm, on.prompt, on.target), found.hidden_states
    streams = [*(model.model.language_model.norm(one) for one in inner), last]
    with torch.no_grad():
        chance = [model.lm_head(one[0, on.prompt.tokens.image]).softmax(-1)[:, on.target.ids[on.target.first]] for one in streams]
    return ours.word_chance, torch.stack(chance).detach().reshape(ours.word_chance.shape)
