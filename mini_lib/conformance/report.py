"""The battery as a table or as JSON: what `mini-lib check` prints."""

from __future__ import annotations

import json
import math
import sys
from functools import partial

from tqdm import tqdm

from . import conform, verify


def report(mllm, methods: list, as_json: bool = False) -> int:
    """Run the battery for a model and some methods, and print what it finds; returns 1 if anything failed, else 0.

    Each line is printed as soon as it is known; a bar shows how far it is where the standard error is a terminal.
    """
    jobs = {"load": partial(verify, mllm), **{method.slug: partial(conform, method, mllm) for method in methods}}
    found = {}
    with tqdm(jobs.items(), unit="method", file=sys.stderr, disable=None, leave=False) as bar:
        for name, job in bar:
            bar.set_description(name)
            found[name] = job()
            if not as_json:
                bar.write("\n".join(lines(name, found[name])), file=sys.stdout)
    failed = sum(finding.failed for findings in found.values() for finding in findings)
    if as_json:
        print(json.dumps({"model": mllm.name, "identities_at_load": mllm.checks, "failed": failed,
                          "total": sum(map(len, found.values())), "checked": {name: _plain(findings) for name, findings in found.items()}},
                         indent=1, allow_nan=False))
    return 1 if failed else 0


def lines(name: str, findings: list) -> list[str]:
    """One line with the counts, and one for each finding that did not pass."""
    passed, excused = (sum(getattr(finding, what) for finding in findings) for what in ("passed", "excused"))
    return [f"{name:22} {passed} of {len(findings)} passed" + (f", {excused} excused" if excused else ""),
            *(f"  {finding}." for finding in findings if not finding.passed)]


def _plain(findings: list) -> dict:
    return {"passed": sum(finding.passed for finding in findings), "excused": sum(finding.excused for finding in findings),
            "failed": sum(finding.failed for finding in findings), "total": len(findings),
            "findings": [{"check": finding.check, "claim": finding.claim, "passed": finding.passed, "limit": finding.limit,
                          "error": finding.error if math.isfinite(finding.error) else None,     # null: not a matter of degree
                          "note": finding.note, "excuse": finding.excuse} for finding in findings]}
