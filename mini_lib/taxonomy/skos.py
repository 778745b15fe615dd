"""The taxonomy as SKOS, in Turtle and JSON-LD. Needs rdflib; so `export` imports this module only when it writes.

A concept's URI is the address of its page, without a version, since ids last; the scheme names the version.
What SKOS has no word for stays in taxonomy.yaml: strengths, limitations, open problems, works and sources.

Two things are said more weakly than one might expect, so that nothing false follows from the graph:

- `see_also` is `skos:related`, which SKOS forbids between a concept and what is above or below it. There it is
  `rdfs:seeAlso`.
- A term of a rival taxonomy is a mapping (`skos:closeMatch` and its like) only where the match gives the term's own
  address in `where`. A paper's address names the paper, not one of its terms: mapped to that, all the terms of a
  paper would be one concept. Such a match is a `skos:note`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

try:
    from rdflib import Graph, Literal, URIRef
    from rdflib.namespace import DCTERMS, OWL, RDF, RDFS, SKOS, XSD
except ImportError as error:
    raise ImportError(f"The SKOS files are made with rdflib, which could not be imported ({error}). Install it: "
                      "pip install 'rdflib>=7.1', or in a checkout: pip install -e '.[taxonomy]'.") from error

from .cite import address
from .nodes import FIT, Node, Taxonomy

PREFIXES = {"dct": DCTERMS, "owl": OWL, "rdfs": RDFS, "skos": SKOS, "xsd": XSD}
ADDRESS = re.compile(r"https?://[^\s<>\"{}|\\^`]+")


def turtle(taxonomy: Taxonomy, site: dict) -> str:
    """The graph as Turtle. Raises what `graph` raises."""
    return graph(taxonomy, site).serialize(format="turtle")


def json_ld(taxonomy: Taxonomy, site: dict) -> str:
    """The graph as JSON-LD. Its context lies inside, so that reading it fetches nothing. Raises what `graph` raises."""
    context = {prefix: str(base) for prefix, base in PREFIXES.items()}
    data = json.loads(graph(taxonomy, site).serialize(format="json-ld", context=context))
    # rdflib writes the subjects in the order of their hashes, which differs from run to run.
    parts = sorted(data["@graph"], key=lambda part: part["@id"])
    return json.dumps({"@context": context, "@graph": parts}, ensure_ascii=False, indent=1) + "\n"


def graph(taxonomy: Taxonomy, site: dict) -> Graph:
    """The taxonomy as a graph, without blank nodes.

    site: the book's addresses, from `mini_lib.book.site(root)`.
    Raises ValueError when a node points to an id that does not exist.
    """
    out = Graph(bind_namespaces="none")
    for prefix, base in PREFIXES.items():
        out.bind(prefix, base)
    scheme = URIRef(address(None, site))
    concepts = {node.id: URIRef(address(node, site)) for node in taxonomy.nodes}
    for said in _scheme(taxonomy, site):
        out.add((scheme, *said))
    for node in taxonomy.nodes:
        concept = concepts[node.id]
        for said in (*_words(node, taxonomy), *_mappings(node, taxonomy)):
            out.add((concept, *said))
        out.add((concept, SKOS.inScheme, scheme))
        if not node.broader:
            out.add((concept, SKOS.topConceptOf, scheme))
            out.add((scheme, SKOS.hasTopConcept, concept))
        for verb, target, inverse in _links(node, taxonomy):
            if target not in concepts:
                raise ValueError(f"{node}: it points to {target}, which does not exist. Correct the id; "
                                 "`mini-lib taxonomy validate` names the field and the line.")
            out.add((concept, verb, concepts[target]))
            if inverse:
                out.add((concepts[target], inverse, concept))
    return out


def _scheme(taxonomy: Taxonomy, site: dict) -> Iterator[tuple]:
    yield RDF.type, SKOS.ConceptScheme
    yield SKOS.prefLabel, _english(taxonomy.title)
    yield DCTERMS.title, _english(taxonomy.title)
    yield DCTERMS.creator, Literal(site["author"])
    yield DCTERMS.issued, Literal(taxonomy.released, datatype=XSD.date)
    yield OWL.versionInfo, Literal(taxonomy.version)
    yield DCTERMS.source, URIRef(f"https://arxiv.org/abs/{taxonomy.arxiv}")
    yield DCTERMS.description, _english(
        f"After Figure {taxonomy.figure} of {taxonomy.survey_authors}, {taxonomy.survey_title}, arXiv:{taxonomy.arxiv}, "
        "as far as public sources show it. An editorial note at each concept says how well its place is confirmed.")
    creative = re.fullmatch(r"CC-(BY[A-Z-]*)-([0-9.]+)", taxonomy.licence)
    if creative:
        yield DCTERMS.license, URIRef(f"https://creativecommons.org/licenses/{creative[1].lower()}/{creative[2]}/")
    else:
        yield DCTERMS.rights, Literal(taxonomy.licence)      # dct:license wants an address


def _words(node: Node, taxonomy: Taxonomy) -> Iterator[tuple]:
    yield RDF.type, SKOS.Concept
    yield SKOS.notation, Literal(node.id)
    yield SKOS.prefLabel, _english(node.label)
    yield SKOS.definition, _english(node.definition)
    for language, said in node.translations.items():
        yield SKOS.prefLabel, Literal(said.label, lang=language)
        yield SKOS.definition, Literal(said.definition, lang=language)
    for label in node.alt_labels:
        yield SKOS.altLabel, _english(label)
    for text in node.includes:
        yield SKOS.scopeNote, _english(f"Includes: {text}")
    for item in node.excludes:
        yield SKOS.scopeNote, _english(f"Excludes: {item.text} (see {item.see})")
    yield SKOS.scopeNote, _english(f"Usage: {node.usage}. {node.usage_note or ''}".strip())
    yield SKOS.editorialNote, _english(f"Status: {node.status}.")
    yield SKOS.editorialNote, _english(_standing(node))
    yield SKOS.changeNote, _english(f"Added in version {node.introduced_in}.")
    if node.deprecation:
        yield OWL.deprecated, Literal(True)
        yield SKOS.changeNote, _english(f"Deprecated in version {node.deprecation.version}: {node.deprecation.reason}")


def _standing(node: Node) -> str:
    if node.relation == "added":
        return "Standing: added by us; the survey's tree, as far as we know it, has no such node."
    seen = f" (sources: {', '.join(node.seen)})" if node.seen else ""
    return (f"Standing: relation to the survey's tree: {node.relation}; confirmation: {node.confirmation}{seen}. "
            f"{node.survey_note or ''}").strip()


def _mappings(node: Node, taxonomy: Taxonomy) -> Iterator[tuple]:
    rivals = {rival.code: rival for rival in taxonomy.rivals}
    for match in node.matches:
        if match.where and ADDRESS.fullmatch(match.where):
            yield SKOS[f"{match.fit}Match"], URIRef(match.where)
            continue
        rival = rivals[match.rival]
        place = "; ".join(filter(None, (f"{rival.title} ({rival.year})", rival.address, match.where)))
        yield SKOS.note, _english(f"Match ({match.fit}: {FIT[match.fit]}): {match.term}, in {place}.")


def _links(node: Node, taxonomy: Taxonomy) -> Iterator[tuple]:
    """Verb, id of the other node, and the verb of the way back, if that is said too."""
    for id in node.broader:
        yield SKOS.broader, id, SKOS.narrower
    in_line = taxonomy.above(node) | taxonomy.below(node)
    for id in node.see_also:
        yield (RDFS.seeAlso, id, None) if id in in_line else (SKOS.related, id, SKOS.related)
    for id in node.deprecation.replaced_by if node.deprecation else ():
        yield DCTERMS.isReplacedBy, id, None


def _english(text: str) -> Literal:
    return Literal(text, lang="en")
