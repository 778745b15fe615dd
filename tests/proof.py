"""Write the book's page of proofs: `python -m tests.proof`, with the libraries of the extra `compare` installed.

What is listed comes from the code: the checks of the battery, the revived bugs, the comparisons with other libraries. The last
one is measured when the page is written; a test holds the rest to the code.
"""

import contextlib
import io
from html import escape
from pathlib import Path

from mini_lib.conformance import checks, handle
from tests.mutation.bugs import BUGS, LATER

PAGE = Path(__file__).resolve().parents[1] / "chapters" / "proof.md"

TEXT = """# How we know that it is right

<!-- Written by `python -m tests.proof`. -->

An explanation that is wrong looks like one that is right. So nothing here rests on how a map looks:
every method has identities that must hold on any model, goes through one battery of checks, is compared with other libraries
where they compute the same, and the checks themselves are tried on bugs that we put in on purpose.

What this page cannot show is that a right map helps a person. It shows that the code does what its formula says.

## The battery

`mini-lib check` puts every method through it, on `tiny` or on a model of yours; `mini-lib check occlusion` one of them.
A function of your own goes through it in three lines, without being registered:

```python
from mini_lib import conformance

def mine(mllm, prompt, token=None): ...             # returns a PatchMap, or another result of mini_lib.results

print(*conformance.conform(mine), sep="\\n")
```

| check of a method | what must hold |
|---|---|
{methods}

| check of a model | what must hold |
|---|---|
{handles}

## Would it notice?

{count} silent bugs are put into the library, one at a time, and the named check has to fail; without the bug it has to pass.
None of them raises an error: the numbers are plausible, and wrong. `make mutation` runs them all, and so does `make test`.

| the bug | what is said when it is there |
|---|---|
{bugs}

{later}

## Other libraries

Where another library computes the same, the largest absolute difference is measured on `tiny`, for a word that it does not say,
so that nothing is near zero by luck. `pip install -e ".[compare]"` and `python -m tests.oracles` repeat it;
the tests hold each limit, and skip aloud where a library is missing.

{oracles}
"""


def page(oracles: str) -> str:
    """The page in Markdown; `oracles`: the table of `python -m tests.oracles`."""
    later = "; ".join(f"*{bug}* (it waits for {method})" for bug, method in LATER.items())
    return TEXT.format(methods=_table(checks.CHECKS), handles=_table(handle.CHECKS), count=len(BUGS), oracles=oracles.strip(),
                       bugs="\n".join(f"| {escape(bug.name)} | {escape(bug.noticed_by)} |" for bug in BUGS),
                       later=f"Not yet revived, because the method that had it is not here yet: {later}.")


def _table(checks) -> str:
    return "\n".join(f"| {check.__name__.removeprefix('check_').replace('_', ' ')} | {check.__doc__.strip().splitlines()[0]} |"
                     for check in checks)


def main() -> None:
    from tests.oracles import __main__ as oracles
    with contextlib.redirect_stdout(io.StringIO()) as table:
        failed = oracles.main([])
    if failed:
        raise SystemExit("an oracle is further off than its limit; run `python -m tests.oracles`")
    PAGE.write_text(page(table.getvalue()), encoding="utf-8")


if __name__ == "__main__":
    main()
