"""Text that comes out as it went in: escaping for Markdown, TeX, BibTeX, scripts in HTML and the cells of a spreadsheet.

YAML, JSON, Turtle and JSON-LD are written by libraries that escape for themselves.
"""

from __future__ import annotations

import json
import re


def markdown(text: str) -> str:
    """Text that Markdown (with MyST's roles, maths and substitutions) shows as it is.

        markdown("a*b <c>")  ->  a\\*b \\<c\\>
    """
    text = " ".join(text.split())
    # The colon of an address too: MyST would make a link of it that swallows the escapes behind it.
    text = re.sub(r"([\\`*_{}\[\]<>#|$~&^!]|:(?=//))", r"\\\1", text)
    # At the start of a line these would open a list, a comment, a directive or a target.
    text = re.sub(r"^([-+%:=(])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", text)


def tex(text: str) -> str:
    """Text that TeX prints as it is, safe in a BibTeX field too, where even an escaped brace counts as a brace.

    Letters with accents stay: LaTeX reads UTF-8. Other scripts stay too, and need XeLaTeX or LuaLaTeX to print.
    """
    named = {"\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}",
             "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
             # In TeX's old text fonts these three print as other characters, and `` -- '' print as one.
             "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}"}
    text = re.sub(r"[\\{}~^&%$#_<>|`]", lambda m: named.get(m[0], "\\" + m[0]), " ".join(text.split()))
    return re.sub(r"([-'])(?=\1)", r"\1{}", text)


# Who is no person: BibTeX would take the last word for a family name. Short, since a word here may be nobody's name.
GROUPS = {"authors", "collaboration", "collaborators", "community", "consortium", "contributors", "developers",
          "foundation", "group", "inc", "institute", "lab", "labs", "project", "research", "team", "university"}
# With a capital they are particles too where they stand between other names: Ronan Le Bras, Luc Van Gool.
PARTICLES = {"Al", "Ben", "Da", "De", "Del", "Della", "Der", "Di", "Dos", "Du", "El", "La", "Le", "Van", "Von"}
SUFFIXES = {"Jr", "Jr.", "Sr", "Sr.", "II", "III", "IV"}


def bibtex_name(name: str) -> str:
    """A name, written "Given Family", as BibTeX tells its parts; a group, or what cannot be split, in braces.

        bibtex_name("Ada Lovelace")          ->  Lovelace, Ada
        bibtex_name("Laurens van der Maaten")  ->  van der Maaten, Laurens
        bibtex_name("Gemini Team")           ->  {Gemini Team}

    Where the family name begins is a guess: at the first particle, else at the last word.
    """
    words = name.split()
    plain = {word.strip(".").casefold() for word in words}
    # BibTeX parts names at commas and at "and", and reads "others" as et al.
    if len(words) < 2 or "," in name or words[0] == "The" or plain & (GROUPS | {"and", "others"}):
        return f"{{{tex(name)}}}"
    suffix = words.pop() if words[-1] in SUFFIXES and len(words) > 2 else ""
    particles = (place for place, word in enumerate(words[1:-1], 1) if word in PARTICLES or word.islower())
    start = next(particles, len(words) - 1)
    if words[start] in ("y", "e", "i") and start > 1:
        start -= 1      # it joins two family names: Blaise Aguera y Arcas
    family = tex(" ".join(words[start:]))
    # BibTeX takes a word in small letters, and all before it, for the particle.
    if any(word.islower() for word in words[start:]) and not words[start][0].islower():
        family = f"{{{family}}}"
    return ", ".join(filter(None, (family, suffix, tex(" ".join(words[:start])))))


def bibtex_title(title: str) -> str:
    """A title in braces of its own, so that no bibliography style changes its capitals.

    The whole of it: which words are names (Flamingo, Gaussian, Python) cannot be told from the title.
    """
    return f"{{{tex(title)}}}"


def cell(text: str) -> str:
    """A cell that no spreadsheet reads as a formula: one that could begin a formula gets an apostrophe in front.

    To read back, take one apostrophe away where apostrophes are followed by such a character. So that this
    always works, what began with apostrophes gets one more. The wide forms count, since Excel knows them too.
    """
    return "'" + text if re.match(r"'*[=+\-@\t\r\n＝＋－＠]", text) else text


def fence(text: str, language: str) -> str:
    """A block of code in Markdown that shows the text as it is.

        fence("mini-lib taxonomy lint review.tex", "bash")
    """
    # Longer than any run of backticks inside, so that nothing in the text can close it.
    ticks = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"


def script_safe(data) -> str:
    """JSON that can stand in a script element: no text in it can close the element or open a comment."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
