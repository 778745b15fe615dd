"""Write the table of families and its page: `python -m tests.families`. Everything in it is run; nothing is believed.

Takes a few minutes. With names, only these rows are run again: `python -m tests.families "Qwen3-VL"`.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import torch
import transformers

from mini_lib import grids
from mini_lib.families import small
from mini_lib.families.commands import FILE
from mini_lib.families.table import FAMILIES
from mini_lib.refusal import Refusal
from mini_lib.registry import methods

from .matrix import asked, outcome

PAGE = Path(__file__).resolve().parents[2] / "chapters" / "families.md"

TEXT = """# Which models work

<!-- Written by `python -m tests.families`. -->

Every method runs unchanged on the Hugging Face models below: `load("org/name")`, then the same calls as for `tiny`. What
cannot work is refused with its reason.
What is said of a family was found by running it: a small model of its true class with random weights, its true processor
and a tokenizer trained on the spot are saved to a folder and loaded like a model of yours. Then

- the identities of `load` have to hold (hooks change nothing, the lens at the last layer is the model's own answer, a model whose
  words cannot see the picture gives the same answer for two pictures);
- single cells of square, wide and tall pictures are painted, and the image token that changes most has to be one that
  covers this cell: that proves the grid rule without any annotation;
- several pictures in a prompt are told apart, a padded batch answers as one by one, and many pictures score as each alone;
- every method runs, on a picture that is not square, and its own identities have to hold, or it refuses with a reason.

What this does not show is how good a trained model of the family is, or that a checkpoint keeps to its family: `load` checks the
identities on yours, and `mini-lib check --model org/name` paints its cells.

{count} families are loaded with all identities, under transformers {version}; `mini-lib families` prints this table.

{table}

## What each method says of them

{methods}

### Why

{reasons}

## Not loaded here

Where a package is missing here that you have, `load` may well work for you; it holds your model to the same identities. Models of sound alone (Qwen2-Audio) are
refused: nothing in their prompt is a picture.

{missing}

## How a picture becomes tokens

The one thing that a family needs from this library is its grid rule, one line in `mini_lib/grids.py`:

{rules}

A token that covers more than a cell (of a thumbnail) shares its value among its cells by area, so that sums are kept; one that covers
none (a newline between rows) is left out of the map and counted under *elsewhere*. Where a processor pads, crops or cuts a picture into
tiles, it is not imitated: a picture whose colours say where each pixel lies is sent through it, and what comes out says where it looks.
So cells are always in pixels of the picture that you gave.

## How to add a family

1. One line: which rule it has. If none fits, write one; it returns for each picture its cells and what its tokens cover.
2. One entry in `mini_lib/families/table.py`: its config in small, its processors, its special tokens and its chat form. Ten lines
   that differ little from those of its nearest relative.
3. `python -m pytest tests/families -k "My-VLM"` tries everything above, and `python -m tests.families "My-VLM"` adds it to this page.

```python
# mini_lib/grids.py: the whole picture in patches, two by two of which become one token
RULES["my_vlm"] = merged

# mini_lib/families/table.py
Family("My-VLM", "my_vlm", example="org/my-vlm",
       config=dict(vision_config=qwen_tower(hidden_size=32), text_config=TEXT | MROPE, **QWEN_IDS),
       processor=("MyVLMProcessor", {{}}), pictures=("MyVLMImageProcessorPil", dict(patch_size=8, merge_size=2)),
       tokens=QWEN_TOKENS, marks=("<|im_start|>",), template=QWEN_CHAT),
```

For a model of your own that is in no release of transformers, the first line is enough: `from mini_lib import grids`, add to
`grids.RULES` before `load`, and run `mini-lib check` in the same process to see whether the cells are right.
"""


def measure(family) -> dict:
    """One row: what `load` says, and what came of each method."""
    row = {"family": family.name, "kind": family.kind, "example": family.example}
    if family.missing:
        return row | {"missing": family.missing}
    try:
        mllm = small(family.name)
    except Refusal as refusal:
        return row | {"refused": str(refusal)}
    prompt, target = asked(mllm)
    found = {slug: outcome(mllm, slug, prompt, target) for slug in methods()}
    return row | {"rule": rule_of(family.kind), "identities": list(mllm.checks), "methods": found}


def rule_of(kind: str) -> str:
    """The name of a family's grid rule."""
    return grids.RULES[kind].__name__.replace("_", " ")


def _unproven(row: dict) -> str:
    """What is said of a rule that is set but was never run here."""
    if row["kind"] not in grids.RULES:
        return "; it has no grid rule yet"
    return f"; its rule is set to *{rule_of(row['kind'])}* and not proven: let `mini-lib check --model …` paint cells on yours"


def page(table: dict) -> str:
    """The page in Markdown."""
    rows = sorted(table["families"], key=lambda row: row["family"].lower())

    def works(row, slug):
        return "works" in row["methods"][slug]

    ran = [row for row in rows if "methods" in row]
    slugs = list(methods())
    lines = ["| family | for example | grid rule | methods that work |", "|---|---|---|---|"]
    for row in ran:
        good = [slug for slug in slugs if works(row, slug)]
        lines.append(f"| {row['family']} | `{row['example']}` | {row['rule']} | {'all ' if len(good) == len(slugs) else ''}{len(good)}"
                     f"{'' if len(good) == len(slugs) else f' of {len(slugs)}'} |")
    each = ["| method | works on | refused on |", "|---|---|---|"]
    why = defaultdict(lambda: defaultdict(list))
    for slug in slugs:
        bad = [row for row in ran if not works(row, slug)]
        each.append(f"| `{slug}` | {len(ran) - len(bad)} of {len(ran)} | {', '.join(row['family'] for row in bad) or 'none'} |")
        for row in bad:
            reason = re.sub(r" \(off by \d+%\)", "", next(iter(row["methods"][slug].values())).replace(row["family"], "…"))
            why[reason][row["family"]].append(slug)
    reasons = [f"- {reason}\n  *({'; '.join(f'{family}: ' + ', '.join(named) for family, named in by.items())})*"
               for reason, by in why.items()]
    rest = [f"| {row['family']} | `{row['example']}` | {(row.get('missing') or row['refused']).rstrip('.')}"
            f"{_unproven(row) if 'missing' in row else ''} |" for row in rows if "methods" not in row]
    rules = ["| rule | what it says | families |", "|---|---|---|"]
    for rule in dict.fromkeys(row["rule"] for row in ran):
        function = next(grids.RULES[row["kind"]] for row in ran if row["rule"] == rule)
        rules.append(f"| {rule} | {function.__doc__.strip().splitlines()[0]} | {', '.join(row['family'] for row in ran if row['rule'] == rule)} |")
    return TEXT.format(count=len(ran), version=table["transformers"], table="\n".join(lines), methods="\n".join(each),
                       reasons="\n".join(reasons), missing="\n".join(["| family | for example | why |", "|---|---|---|", *rest]), rules="\n".join(rules))


def main(names: list[str]) -> None:
    """Run the families again, all or those named, and write what came of it."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    before = {row["family"]: row for row in json.loads(FILE.read_text(encoding="utf-8"))["families"]} if names and FILE.exists() else {}
    rows = []
    for family in FAMILIES:
        rows.append(measure(family) if not names or family.name in names else before[family.name])
        bad = {slug: found for slug, found in rows[-1].get("methods", {}).items() if "fails" in found}
        print(family.name, bad or "", flush=True)
    table = {"transformers": transformers.__version__, "families": rows}
    FILE.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(table), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
