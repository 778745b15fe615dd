// The picture of the tree: the Tab key stops at it once, and the arrow keys go from box to box.
// Without this script every box is a stop of its own. Which box lies where is read from the drawing.
"use strict";

for (const picture of document.querySelectorAll("svg.mx-tree")) {
  const boxes = [...picture.querySelectorAll("a")];
  const places = new Map(boxes.map(box => {
    const {x, y, width, height} = box.querySelector("rect").getBBox();
    return [box, {x: x + width / 2, y: y + height / 2}];
  }));
  const stop = box => boxes.forEach(other => other.setAttribute("tabindex", other === box ? "0" : "-1"));
  // Up and down within a column, which the whole, a little further left, heads; left and right to the next column.
  const next = {
    ArrowUp: (from, to) => Math.abs(to.x - from.x) < 40 && to.y < from.y,
    ArrowDown: (from, to) => Math.abs(to.x - from.x) < 40 && to.y > from.y,
    ArrowLeft: (from, to) => to.x < from.x,
    ArrowRight: (from, to) => to.x > from.x,
  };
  stop(boxes[0]);
  // On each box: Chromium makes an SVG that listens for focus itself a stop of the Tab key.
  for (const box of boxes) box.addEventListener("focus", () => stop(box));
  picture.addEventListener("keydown", event => {
    const box = event.target.closest("a");
    if (!box || !(event.key in next) || event.ctrlKey || event.metaKey || event.altKey) return;
    const from = places.get(box);
    // A step to another column counts for more than any way up or down.
    const far = other => 1e4 * Math.abs(places.get(other).x - from.x) + Math.abs(places.get(other).y - from.y);
    const found = boxes.filter(other => next[event.key](from, places.get(other))).sort((a, b) => far(a) - far(b))[0];
    event.preventDefault();
    if (found) {
      found.focus();
      found.scrollIntoView({block: "nearest", inline: "nearest"});
    }
  });
}
