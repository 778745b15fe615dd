"""nnsight: the model's inside, read and changed through another library's way in."""

import numpy as np
import torch

from mini_lib.registry import find

from .pairs import pair


def traced(on):
    from nnsight import NNsight
    return NNsight(on.mllm.model)


@pair("nnsight", "logit-lens", "trace of every block, normed and unembedded", 1e-5)
def logit_lens(on):
    """Probability of the answer's first word at each image token, before block 0 and after every block."""
    ours = find("logit-lens").explain(on.mllm, on.prompt, on.target)
    model, inputs = traced(on), on.prompt.inputs
    with torch.no_grad(), model.trace(**inputs):
        decoder, kept = model.model.language_model, []
        first = decoder.layers[0].input.save()
        for layer in decoder.layers:
            kept.append(layer.output.save())
        kept = kept.save()
    streams = [first, *(one[0] if isinstance(one, tuple) else one for one in kept)]
    with torch.no_grad():
        chance = [on.mllm.model.lm_head(on.mllm.model.model.language_model.norm(stream[0, on.prompt.tokens.image])).softmax(-1)
                  [:, on.target.ids[on.target.first]] for stream in streams]
    return ours.word_chance, torch.stack(chance).reshape(ours.word_chance.shape)


@pair("nnsight", "token-ablation", "a trace that writes the mean token", 1e-3)
def token_ablation(on):
    """One patch in seven: what the answer loses when its token becomes the mean of all of them."""
    ours, image = find("token-ablation").explain(on.mllm, on.prompt, on.target).values.ravel(), on.prompt.tokens.image
    model, inputs, tried = traced(on), on.mllm.forced(on.prompt, on.target), range(0, len(image), 7)
    wanted, scores = torch.tensor(on.target.ids[on.target.first:]), []
    for patch in (None, *tried):
        with torch.no_grad(), model.trace(**inputs):
            if patch is not None:
                stream = model.model.language_model.layers[0].input.clone()
                stream[:, image[patch]] = stream[:, image].mean(1)
                model.model.language_model.layers[0].input = stream
            logits = model.lm_head.output.save()
        scores.append(float(logits[0, -len(wanted):].log_softmax(-1).gather(-1, wanted[:, None]).sum()))
    return ours[list(tried)], scores[0] - np.array(scores[1:])
