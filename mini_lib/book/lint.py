"""The house rules for chapters, checked without running anything: `lint(path)` lists what is broken.

A chapter must read the same in Colab, on GitHub and on the site, must hold outputs that nbval can compare,
and must keep the order that makes chapters comparable. Each rule below is one function that yields sentences.
"""

import ast
import json
import re
import sys
from pathlib import Path

from .chapters import LIMIT
from .stamp import FIRST_LINE, TAGS, setup_cell

# The spine of a chapter: these headings of level two, in this order, each exactly once.
SPINE = ["The question", "Where it sits", "Idea, equation, shapes, code", "Result", "Play with it", "Exercises",
         "Strengths", "Limitations", "When it misleads", "Takeaways", "Check yourself", "Further reading",
         "Cite this chapter"]
CALLOUTS = ["The claim", "Learning goals", "Prerequisites"]

# What Colab has installed; a chapter that imports anything else would need pip there.
COLAB = {"torch", "transformers", "numpy", "matplotlib", "PIL", "yaml", "ipywidgets", "IPython", "mini_lib"}


def lint(path: Path, folder: Path | None = None) -> list[str]:
    """All broken rules of one chapter, as sentences. `folder` is the repository root, if it is not this one."""
    text = Path(path).read_text(encoding="utf-8")
    notebook = json.loads(text)
    cells = [{**cell, "source": "".join(cell["source"])} for cell in notebook["cells"]]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    prose = "\n\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    found = [*executed(code), *clean_outputs(code), *plain_markdown(prose), *set_up(code, folder), *one_title(prose),
             *image_texts(prose, code), *imports(code), *references(prose, folder)]
    if Path(path).resolve().parent.name != "chapters":       # a notebook right there is about the library, not about a node of the tree
        found += [*spine(prose), *callouts(prose)]
    if len(text) > LIMIT:
        found.append(f"the file has {len(text) // 1000} kB; at most {LIMIT // 1000} are allowed")
    if "widgets" in notebook.get("metadata", {}):
        found.append("it stores widget state; the site shows no stored widgets, use a scrubber")
    return found


def executed(code):
    counts = [cell.get("execution_count") for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"code cells were not run once each from top to bottom (execution counts {counts})"


def clean_outputs(code):
    for number, cell in enumerate(code, 1):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                yield f"code cell {number} stores an error: {output.get('ename')}"
            if output.get("name") == "stderr":
                yield f"code cell {number} stores stderr"


def plain_markdown(prose):
    for fence in re.findall(r"^\s*(?:`{3,}|~{3,}|:{3,})\{[\w:-]+\}", prose, re.MULTILINE):
        yield f"directive {fence.strip()}: Colab shows it as raw text, use plain Markdown or a callout quote"
    for role in re.findall(r"\{[\w:-]+\}`[^`]*`", without_code(prose)):
        yield f"role {role}: Colab shows it as raw text, use an ordinary link"


def set_up(code, folder):
    if not code or not code[0]["source"].startswith(FIRST_LINE):
        yield "the first code cell is not the set-up cell; run `mini-lib chapters stamp`"
        return
    if code[0]["source"] != setup_cell(folder):
        yield "the set-up cell differs from the book's; run `mini-lib chapters stamp`"
    if code[0].get("metadata", {}).get("tags") != TAGS:
        yield f"the set-up cell must carry the tags {TAGS}; run `mini-lib chapters stamp`"


def spine(prose):
    headings = re.findall(r"^## +(.+?) *$", without_code(prose), re.MULTILINE)
    if headings != SPINE:
        missing = [name for name in SPINE if name not in headings]
        extra = [name for name in headings if name not in SPINE]
        yield ("headings of level two must be the chapter spine, in its order"
               + (f"; missing: {', '.join(missing)}" if missing else "")
               + (f"; not in the spine: {', '.join(extra)}" if extra else ""))


def one_title(prose):
    if len(re.findall(r"^# ", without_code(prose), re.MULTILINE)) != 1:
        yield "there must be exactly one heading of level one, the title"


def callouts(prose):
    for name in CALLOUTS:
        if f"> **{name}.**" not in prose:
            yield f"there is no callout `> **{name}.** …`"


def image_texts(prose, code):
    for alt, address in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)", prose):
        if not alt.strip():
            yield f"image {address} has no alternative text"
        if re.match(r"https?://|//", address):
            yield f"image {address} lies on another server"
    for tag in re.findall(r"<img\b[^>]*>", prose):
        if re.search(r"""src=["']?(https?:)?//""", tag):
            yield f"an image lies on another server: {tag[:80]}"
    for number, cell in enumerate(code, 1):
        shown = [output.get("data", {}) for output in cell.get("outputs", [])]
        pages = ["".join(data["text/html"]) for data in shown if "text/html" in data]
        if any("image/png" in data and "text/html" not in data for data in shown) \
                and not cell.get("metadata", {}).get("mystnb", {}).get("image", {}).get("alt"):
            yield f"code cell {number} shows a picture without alternative text; add a line `# alt: …` to it"
        if any(not re.search(r"\balt=", tag) for page in pages for tag in re.findall(r"<img\b[^>]*>", page)):
            yield f"code cell {number} shows an <img> without alternative text"
    for tag in re.findall(r"<img\b[^>]*>", prose):
        if not re.search(r"\balt=", tag):
            yield f"an image has no alternative text: {tag[:80]}"


def imports(code):
    for number, cell in enumerate(code, 1):
        if re.search(r"\bpip3?\s+install\b|\"pip\"", cell["source"]):
            yield f"code cell {number} runs pip; chapters install nothing"
        plain = re.sub(r"^\s*[%!].*$", "", cell["source"], flags=re.MULTILINE)
        try:
            tree = ast.parse(plain)
        except SyntaxError as problem:
            yield f"code cell {number} is not Python: {problem.msg}"
            continue
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) and node.module else [])
            for name in names:
                if name.split(".")[0] not in COLAB | sys.stdlib_module_names:
                    yield f"code cell {number} imports {name}, which Colab does not have"


def references(prose, folder):
    """Every arXiv id and DOI that is linked must be in references.bib, so that the link can be cited."""
    from .lock import book_root
    bib = book_root(folder) / "references.bib"
    known = bib.read_text(encoding="utf-8").lower() if bib.exists() else ""
    for cited in sorted(set(re.findall(r"arxiv\.org/(?:abs|pdf|html)/(\d{4}\.\d{4,5})", prose)
                            + re.findall(r"doi\.org/(10\.[^\s)>\"]+)", prose))):
        if cited.lower() not in known:
            yield f"{cited} is linked but is not in references.bib"


def without_code(prose):
    return re.sub(r"^(`{3,}|~{3,}).*?^\1", "", prose, flags=re.MULTILINE | re.DOTALL)
