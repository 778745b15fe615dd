"""Which part each position of a sequence plays: `roles(prompt, target)`."""

from __future__ import annotations


def roles(prompt, target) -> dict[str, list[int]]:
    """Positions of the prompt with the target's tokens forced, as `mllm.forced` makes it; each is in exactly one list.

    "answer": those that say the scored tokens, at the end of the sequence; the last word of a prompt may be the first of them.
    "said": words of the answer that are forced before these.  "image".  "question": its words, as far as they are not "answer".
    "first": position 0, if it is none of these.  "form": what is left, the chat form and marks.
    """
    text, count = len(prompt.tokens.text), len(target.ids) - target.first
    length = text + len(target.ids) - 1
    found = {"answer": list(range(length - count, length)), "said": list(range(text, length - count)),
             "image": prompt.tokens.image.tolist(), "question": prompt.tokens.question, "first": [0], "form": list(range(length))}
    taken: set[int] = set()
    for name, positions in found.items():
        found[name] = [position for position in positions if position not in taken]
        taken |= set(positions)
    return found
