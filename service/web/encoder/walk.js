// A way between two pictures through the law: each point is as likely as a draw; the nearest held-out picture shows it.

import { fill, h } from "/static/lib/dom.js";
import { nearest, squaredDistance } from "/static/lib/numbers.js";
import { picture } from "/static/lib/pictures.js";
import { problem } from "/static/parts/bits.js";
import { between } from "/static/encoder/held.js";

const STEPS = 41;
const FRAMES = 9;

export function walk(encoder, { held, map }) {
  const ends = { a: 0, b: farthest(held.rows, 0) };
  const slider = h("input", { id: "walk", type: "range", min: 0, max: STEPS - 1, value: 0, oninput: () => step() });
  const [from, to, now, strip] = [h("figure"), h("figure"), h("figure", { "aria-live": "polite" }), h("div", { class: "sheet small" })];
  const outcome = h("div");
  let points = [];
  const show = (node, i, caption, size) => fill(node, picture(held.pictures, i, map.name(i), { size }), h("figcaption", {}, caption));

  async function begin() {
    show(from, ends.a, "from", 72);
    show(to, ends.b, "to", 72);
    try {
      points = await between(encoder, held.rows[ends.a], held.rows[ends.b], STEPS);
      const frames = Array.from({ length: FRAMES }, (_, k) => nearest(held.rows, points[Math.round((k * (STEPS - 1)) / (FRAMES - 1))], 1)[0]);
      fill(strip, frames.map((i) => picture(held.pictures, i, map.name(i), { size: 48 })));
      fill(outcome);
      step();
    } catch (error) {
      fill(outcome, problem(error));
    }
  }

  function step() {
    const point = points[slider.value];
    if (!point) return;
    const [i] = nearest(held.rows, point, 1);
    show(now, i, `nearest: ${map.name(i)}`, 112);
    slider.setAttribute("aria-valuetext", `${Math.round((100 * slider.value) / (STEPS - 1))} %, nearest ${map.name(i)}`);
    map.mark("walk", { row: point, path: points, label: "" });
  }

  map.onEnd((end, i) => {
    ends[end] = i;
    begin();
  });
  begin();
  return h("div", { class: "walk" },
    h("div", { class: "ends" }, from, now, to),
    h("label", { for: "walk" }, "Along the way"), slider, strip, outcome,
    h("p", { class: "note" }, "Point at a dot of the map to choose other ends."));
}

const farthest = (rows, i) => rows.reduce((best, row, j) => (squaredDistance(row, rows[i]) > squaredDistance(rows[best], rows[i]) ? j : best), i);
