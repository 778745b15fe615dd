// The table of all works: filters above it, sorting in its head. Without this script it is a plain table.
// The filters stay in the address, so that a link (of the coverage map, say) can open the table filtered.
"use strict";

const table = document.getElementById("works");
const data = JSON.parse(document.getElementById("works-data").textContent);
const body = table.tBodies[0];
const rows = [...body.rows];
const FIRST = 60;      // rows that fit and are shown; a button shows the rest
// Accents and case do not count: "deiseroth bjorn" finds Björn Deiseroth.
const plain = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const words = new Map(rows.map(row => [row, plain(row.textContent)]));

// Text always goes in as text, never as HTML.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function field(label, name, control) {
  control.id = `works-${name}`;
  control.name = name;
  return make("div", {class: "mx-field"}, make("label", {for: control.id}, label), control);
}

function choice(label, name, options) {
  return field(label, name, make("select", {}, make("option", {value: ""}, "any"),
    ...options.map(([value, text]) => make("option", {value}, text))));
}

const nodes = data.nodes.flatMap(node => {
  const indent = "\u00a0\u00a0".repeat(node.depth);
  return [...(node.own ? [[node.id, `${indent}${node.label}`]] : []),
          ...(node.below ? [[`${node.id}-below`, `${indent}${node.label}${node.own ? " and below" : " (all below)"}`]] : [])];
});
const years = data.years.map(year => [year, year]);
const form = make("form", {class: "mx-filter", role: "search", "aria-label": "Filter the works"},
  field("Words in the row", "words", make("input", {type: "search", autocomplete: "off"})),
  choice("Node", "node", nodes),
  choice("Modality", "modality", data.modalities.map(name => [name, name])),
  choice("Role", "role", Object.entries(data.roles)),
  choice("Ground", "ground", Object.entries(data.grounds)),
  choice("From year", "from", years),
  choice("To year", "to", years),
  make("button", {type: "reset"}, "Clear the filters"));
const told = make("p", {class: "mx-count", role: "status"});
const more = make("button", {type: "button", class: "mx-more"});
table.parentElement.before(form, told);
table.parentElement.after(more);

const names = ["words", "node", "modality", "role", "ground", "from", "to"];
let sorted = {column: "", down: false};
let all = false;

function wanted(row, filters) {
  const {node, above, modalities, role, ground, year} = row.dataset;
  const inside = filters.node.endsWith("-below") ? above.split(" ").includes(filters.node.slice(0, -6)) : node === filters.node;
  return (!filters.node || inside)
    && (!filters.modality || modalities.split(" ").includes(filters.modality))
    && (!filters.role || role === filters.role)
    && (!filters.ground || ground === filters.ground)
    && (!filters.from || year >= filters.from)
    && (!filters.to || year <= filters.to)
    && plain(filters.words).split(/\s+/).every(word => words.get(row).includes(word));
}

function show() {
  const filters = Object.fromEntries(names.map(name => [name, form.elements[name].value]));
  const fit = [...body.rows].filter(row => wanted(row, filters));      // in the order in which they stand now
  const shown = new Set(all ? fit : fit.slice(0, FIRST));
  for (const row of rows) row.hidden = !shown.has(row);
  const works = new Set(fit.map(row => row.dataset.work)).size;
  const said = `${works} ${works === 1 ? "work" : "works"} in ${fit.length} of ${rows.length} rows.`
    + (shown.size < fit.length ? ` The first ${shown.size} rows are shown.` : "");
  if (told.textContent !== said) told.textContent = said;
  more.hidden = shown.size === fit.length;
  more.textContent = `Show all ${fit.length} rows`;
  return filters;
}

function remember(filters) {
  const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
  if (sorted.column) query.set("sort", sorted.down ? `-${sorted.column}` : sorted.column);
  const text = query.toString();
  history.replaceState(null, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`);
}

const heads = [...table.tHead.rows[0].cells];
const compare = new Intl.Collator("en", {numeric: true, sensitivity: "base"}).compare;

function sort(column, down) {
  const place = heads.findIndex(head => head.dataset.name === column);
  if (place < 0) return;
  sorted = {column, down};
  heads.forEach((head, number) => number === place
    ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
  // Rows that are the same in this column keep the order in which the page was written.
  const keys = new Map(rows.map(row => [row, row.cells[place].textContent]));
  body.append(...[...rows].sort((a, b) => (down ? -1 : 1) * compare(keys.get(a), keys.get(b))));
}

for (const head of heads) {
  head.dataset.name = head.textContent.toLowerCase();
  const button = make("button", {type: "button"}, head.textContent);
  button.addEventListener("click", () => {
    sort(head.dataset.name, head.getAttribute("aria-sort") === "ascending");
    remember(show());
  });
  head.replaceChildren(button);
}

function recall() {
  const query = new URLSearchParams(location.search);
  for (const name of names) {
    form.elements[name].value = query.get(name) ?? "";
    // A value that no option has leaves the field empty, which means any: so nothing is filtered unseen.
    if (form.elements[name].selectedIndex === -1) form.elements[name].value = "";
  }
  const by = query.get("sort") ?? "";
  if (by) sort(by.replace(/^-/, ""), by.startsWith("-"));
  show();
}

let waiting;
more.addEventListener("click", () => {
  all = true;
  show();
  [...body.rows].filter(row => !row.hidden)[FIRST].querySelector("a").focus();      // reading goes on at the first new row
});
form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("change", () => remember(show()));
form.addEventListener("reset", () => setTimeout(() => remember(show())));
// A moment's wait, or a screen reader would speak a number for every letter.
form.elements.words.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => remember(show()), 200); });
window.addEventListener("popstate", recall);
recall();
