"""Each silent bug, once revived, makes the check fail that is there for it; without it the check passes."""

from functools import cache

import pytest

from tests.mutation.bugs import BUGS


@cache
def healthy(look):
    """What is found wrong in the library as it is; several bugs are looked for in the same way."""
    return look()


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_check_fails_under_the_bug_and_passes_without_it(bug, record_property):
    assert healthy(bug.look) == []
    with bug.revive():
        found = bug.look()
    caught = any(bug.noticed_by in said for said in found)
    record_property("caught", caught)
    assert caught, f"nobody noticed; what was said: {found or 'nothing'}"


def test_no_bug_leaves_anything_behind():
    """All of them have come and gone by now; what was healthy before still is."""
    assert {bug.look: bug.look() for bug in BUGS} == {bug.look: [] for bug in BUGS}


def test_each_bug_has_a_name_of_its_own():
    assert len({bug.name for bug in BUGS}) == len(BUGS)
