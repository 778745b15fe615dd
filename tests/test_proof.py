"""The book's page of proofs lists what the code has: every check, every bug, and a table of oracles."""

from tests.proof import PAGE, page


def test_the_page_is_what_the_code_gives():
    """The oracles apart, which are measured when it is written."""
    written = PAGE.read_text(encoding="utf-8")
    start = written.index("| ours | theirs |")
    assert written == page(written[start:])
    assert "not installed" not in written[start:] and "**broken**" not in written[start:]
