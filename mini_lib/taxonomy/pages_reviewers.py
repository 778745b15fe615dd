"""The page for reviewers: how the taxonomy was made, how it goes on, how to cite it and how to propose a change."""

from __future__ import annotations

from collections import Counter

from .cite import MACROS, cite_latex, cite_sentence
from .escape import fence, markdown
from .nodes import Taxonomy
from .pages_parts import cite_boxes, count, download, page, repository_file
from .works import GROUNDS, ROLES, WORKS, Search

SEARCHED = "2026-11-21"
FORMS = {"work": "taxonomy-work.yml", "node": "taxonomy-node.yml"}      # in .github/ISSUE_TEMPLATE
PARTS = {"title": "the title", "authors": "the list of authors", "abstract": "the abstract", "body": "the body", "code": "the code"}


def render_reviewers(taxonomy: Taxonomy, site: dict) -> str:
    """The page, with all numbers counted from the data."""
    return page([
        "# For reviewers",
        f"This page is for people who judge the taxonomy, or use it in a review of their own. It is about version "
        f"{taxonomy.version} of {taxonomy.released}. It follows the headings of PRISMA-LSR, the reporting guideline for "
        "living systematic reviews, as far as they fit. The taxonomy is no systematic review, and does not claim to be one.",
        "## Protocol",
        *_protocol(taxonomy),
        "## Who filed the works",
        *_coder(taxonomy),
        "## Searches",
        *_searches(taxonomy),
        "## Living mode",
        *_living(site),
        "## Retirement plan",
        "The taxonomy may come to its end. Then:",
        "\n".join([
            "- A last version says at the top of every overview page that it is the last, and since when.",
            "- The ids, the pages and the exports of the last version stay. No id is given away.",
            "- If twelve months pass without a version and without an answer to a proposal, treat it as retired, "
            "whether or not anyone has said so.",
        ]),
        "## Agreement between coders",
        *_agreement(taxonomy, site),
        "## How to cite",
        *_citing(taxonomy, site),
        "## How to propose a work or a node",
        *_proposing(site),
    ])


def _protocol(taxonomy: Taxonomy) -> list[str]:
    works, filings = taxonomy.works, [filing for work in taxonomy.works for filing in work.filed]
    grounds, roles = Counter(filing.ground for filing in filings), Counter(filing.role for filing in filings)
    ours = sum(node.relation == "added" for node in taxonomy.nodes)
    single = sum(len(work.modalities) == 1 for work in works)
    return [
        "**Question.** Which kinds of work explain multimodal large language models, and which works are of which kind?",
        f"**The tree.** {count(len(taxonomy.nodes), 'node')}: {len(taxonomy.nodes) - ours} are meant to follow Figure "
        f"{markdown(taxonomy.figure)} of the survey [arXiv:{taxonomy.arxiv}](https://arxiv.org/abs/{taxonomy.arxiv}), {ours} "
        "are ours. We had not read the body of the survey. Each node says how well its place is confirmed, and by "
        "[which source](index.md#sources-of-the-confirmations).",
        f"**Sources of works.** Public copies of paper lists of the field, and of arXiv listings, as they were stored; last "
        f"searched on {SEARCHED}. Some works were known to us before. We read stored copies, not the live services. "
        "No bibliographic database was searched. So works are missing, the newest ones above all.",
        "**What belongs.** Work that explains, opens up or measures models that take at least two modalities and answer in "
        f"language, or the encoders they are built from. {count(single, 'work')} on models of one modality "
        "stand in the list too, mostly where a method comes from there.",
        "**Screening.** Candidates came by name, from the sources of the tree and from what we knew, or by words of the nodes in "
        "titles and abstracts. Each work that was kept was matched with a public record. We did not keep count of what "
        "was left out, so there is no flow diagram.",
        f"**Filing.** {count(len(filings), 'filing')} of {count(len(works), 'work')}, by the definitions and the scope of the nodes. "
        "Each filing says what the evidence is and where it was seen. The role of a work at a node:",
        "\n".join(f"- {text}: {count(roles[role], 'filing')}" for role, text in ROLES.items()),
        "The ground on which it stands there:",
        "\n".join(f"- {text}: {count(grounds[ground], 'filing')}" for ground, text in GROUNDS.items()),
        "The works are in the [table of all works](works.md). What is empty, and what an empty cell means, is in the "
        "[coverage map](coverage.md).",
    ]


def _coder(taxonomy: Taxonomy) -> list[str]:
    works, filings = taxonomy.works, [filing for work in taxonomy.works for filing in work.filed]
    seen = Counter(part for work in works for part in work.seen)
    return [
        "The works were filed with the help of a language model, under written rules: the definitions and the scope of the nodes. "
        "No second person has coded them, and we know of no check of each filing by a person. Take a filing as the judgement "
        "of one reader. Its reason stands beside it, so that you can check it.",
        f"Bibliographic facts were looked up in public records. Of {count(len(works), 'work')} we saw there:",
        "\n".join(f"- {text} of {_share(seen[part], works)}" for part, text in PARTS.items()),
        f"The list names all authors of {_share(sum(work.authors_complete for work in works), works)}. The venue of "
        f"{_share(sum(work.venue_verified for work in works), works)} was seen in a record; the others are marked as from memory.",
        "A record is seldom the work itself: the filings rest on what abstracts say. The evidence lies beyond the title in "
        f"{_share(sum(filing.locator != 'title' for filing in filings), filings)} of {count(len(filings), 'filing')}.",
    ]


def _share(number: int, things) -> str:
    """"296 (99.0 %)"."""
    return f"{number} ({number / len(things):.1%})".replace("%", " %") if things else str(number)


def _agreement(taxonomy: Taxonomy, site: dict) -> list[str]:
    report = f"{site['url'].rstrip('/')}/issues/new?title=Second%20coding"
    return [
        "No work has two codings, so statistics of agreement are not available yet, and none are given. Where there are two, "
        "this page will say for how many works, how often both chose the same nodes, and Cohen's kappa over all pairs of work and "
        "node.",
        "To become the second coder:",
        "\n".join([
            f"1. Take {download('works.csv', site)} and throw a die for where to begin among its first five works. From there take "
            f"every fifth work, about {len(taxonomy.works) // 5}. More is better.",
            "2. Hide the columns *node* to *reason* before you look. On the page of a node read the definition and the scope, and stop "
            "before its works.",
            "3. Read at least the abstract of each work. Choose the narrowest [nodes](index.md) whose definition and scope fit, or "
            "*none*. Write a table with the columns *work*, *node*, *role*, *locator*, *reason*: a row for each node that you choose.",
            f"4. [Send the table](<{report}>) with your name, the date, the version {taxonomy.version}, and what ties you to the listed works. "
            "Both codings are published as they were made, with the agreement, before anything is settled between them.",
        ]),
    ]


def _searches(taxonomy: Taxonomy) -> list[str]:
    if not taxonomy.searches:
        return ["No search is recorded in full yet: its words, how many results were read, and that each fitting one is filed. "
                "So no empty cell of the [coverage map](coverage.md) can say that nothing was found."]
    return [f"{count(len(taxonomy.searches), 'search is', 'searches are')} recorded in full. Of the results read, each that belongs "
            "here is filed. What no recorded search covers is *not coded* in the [coverage map](coverage.md).",
            "\n".join(map(_search, taxonomy.searches))]


def _search(search: Search) -> str:
    words = ", ".join(f"*{markdown(word)}*" for word in search.words)
    return (f"- {search.code}, {search.date}: {words}, in {markdown(', '.join(search.corpora))}. "
            f"Results read: {markdown(search.looked_at)}. For {', '.join(search.nodes)}, with {', '.join(search.modalities)}. {markdown(search.outcome)}")


def _living(site: dict) -> list[str]:
    return [
        "There is no fixed schedule: the searches are not repeated on set dates, so look at the date of the version. A new version "
        "is made when",
        "\n".join([
            "- someone proposes a work, a node or a correction, and it holds;",
            "- a source becomes readable that settles what is open, such as the body of the survey;",
            "- a node turns out to be misread in practice.",
        ]),
        "Proposals, and what became of them, are public in the issues of the repository. Whoever keeps it decides by the definitions "
        "and the scope of the nodes.",
        "The version has three numbers. The first rises when the meaning of an id changes or an id is retired, the second when "
        "ids are added, the third for wording, evidence and works. That holds for draft nodes too, and below version 1.0.0: who "
        "cites an id sees from the version alone whether it still means the same. An id is never used again for something else; "
        "a retired node keeps its page, which says what to use instead. "
        f"[All changes](<{repository_file(site, 'taxonomy/CHANGELOG.md')}>).",
    ]


def _citing(taxonomy: Taxonomy, site: dict) -> list[str]:
    example = next((node for node in taxonomy.nodes if node.runnable), taxonomy.nodes[0])
    return [
        "Cite a node for a definition, the whole for the tree, and the survey itself for what the survey says. Always name the "
        "version. Every node page ends with its own box. From the command line:",
        fence(f"mini-lib taxonomy cite {example.id}\nmini-lib taxonomy cite {example.id} --format bibtex", "bash"),
        "A sentence for the methods section of a review:",
        fence(f"We group the works by the nodes of {cite_sentence(None, taxonomy, site)}", "text"),
        f"In LaTeX, {download(MACROS, site)} holds macros; `mini-lib taxonomy export --out DIR` writes it too, with "
        "[all other forms](index.md#downloads). A node is named by its id, and the label and the version come from the data, so that they "
        "cannot part:",
        fence(cite_latex(example, taxonomy, site), "latex"),
        "Before you hand the manuscript in, let the linter look for ids that do not exist, ids that are retired, and ids that "
        "stand beside another node's label:",
        fence("mini-lib taxonomy lint review.tex references.bib", "bash"),
        "The whole taxonomy:",
        cite_boxes(None, taxonomy, site),
    ]


def _proposing(site: dict) -> list[str]:
    new = f"{site['url'].rstrip('/')}/issues/new?template="
    return [
        "\n".join([
            f"- [Propose a work](<{new}{FORMS['work']}>), or another place for one. The form asks for the node, the role, and "
            "where in the work the evidence stands.",
            f"- [Propose a node](<{new}{FORMS['node']}>), or a change of one. The form asks for a definition, what does not belong "
            "there, and three works that no present node fits.",
        ]),
        "A work can be checked before it is proposed. Write it down as one entry of "
        f"[works.yaml](<{repository_file(site, WORKS.as_posix())}>), below a line `works:`, in a file of its own, and run",
        fence("mini-lib taxonomy check-work my-work.yaml", "bash"),
        "It says line by line what is missing or wrong, and whether the work is listed already. The authors of a work may propose "
        "it themselves; they should say so.",
    ]
