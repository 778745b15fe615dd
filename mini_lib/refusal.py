"""The one exception for things we will not do: a sentence that names the thing, the reason and the fix."""

from difflib import get_close_matches


class Refusal(ValueError):
    """Raised instead of giving a wrong or empty answer. Its text is one clear sentence for the user."""


def nearest(name: str, known) -> str:
    """ "; did you mean 'x' or 'y'?" for the closest known names, or the list of what is known."""
    known = [str(k) for k in known]
    close = get_close_matches(str(name), known, n=3, cutoff=0.4)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "; known: " + ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
