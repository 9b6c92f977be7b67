// The map: held-out pictures where the encoder puts them, beside as many draws from the law on the same axes.

import { announce, fill, h } from "/static/lib/dom.js";
import { count, counted, extent, nearest, number, percent, principalPlane, projected } from "/static/lib/numbers.js";
import { picture } from "/static/lib/pictures.js";
import { button } from "/static/parts/bits.js";
import { COLOURS, scatter } from "/static/parts/scatter.js";
import { unusual } from "/static/encoder/held.js";

const ALIKE = 8;

/** { node, mark(name, { row, path, label }), onEnd(callback) } of a loaded `held`. */
export function map(encoder, held, sample) {
  const plane = encoder.dim > 2 ? principalPlane(held.rows) : null;
  let axes = plane ? plane.directions : [0, 1];
  const detail = h("div", { class: "detail", "aria-live": "polite" }, h("p", { class: "note" }, "Point at a dot, or go through them with the arrow keys."));
  const marks = new Map();
  let chooseEnd = () => {};
  const left = scatter({ title: `Map of ${counted(held.rows.length, "held-out picture")}`, onPoint: (i, how) => i !== null && tell(i, how) });
  const right = scatter({ title: `${counted(sample.length, "draw")} from the law`, onPoint: (i) => i !== null && tellDraw(i) });
  const name = (i) => held.classes[held.labels[i]] ?? `picture ${i + 1}`;

  function tell(i, how) {
    fill(detail,
      h("div", { class: "found" }, picture(held.pictures, i, name(i), { size: 96 }),
        h("div", {}, h("b", {}, name(i)), h("p", { class: "note" }, `p ${number(held.p[i], 3)}: ${unusual(held.p[i], encoder.prior)}`),
          h("p", { class: "actions" }, button("Walk from here", () => chooseEnd("a", i)), button("Walk to here", () => chooseEnd("b", i))))),
      h("p", { class: "note" }, "Most like it, by the embedding:"), alike(held, nearest(held.rows, held.rows[i], ALIKE, i), name));
    if (how === "chosen") announce(`${name(i)} is chosen`);
  }

  function tellDraw(i) {
    fill(detail, h("p", {}, h("b", {}, "A draw from the law. "), "The held-out pictures closest to it:"), alike(held, nearest(held.rows, sample[i], ALIKE), name));
  }

  const flat = (rows) => projected(rows, axes);
  const spread = (rows) => flat(rows).map(([x, y], i) => (encoder.dim === 1 ? [x, ((i * 0.618) % 1) - 0.5] : [x, y])); // of one number: dots beside each other
  function draw() {
    const [points, drawn] = [spread(held.rows), spread(sample)];
    const placed = [...marks.values()].map(({ row, path, label }) => ({ label, point: flat([row])[0], path: path && flat(path) }));
    const all = [...points, ...drawn, ...placed.flatMap(({ point, path = [] }) => [point, ...path])];
    const limits = [0, 1].map((axis) => padded(extent(all.map((point) => point[axis]))));
    left.draw(points, { limits, colours: held.rows.map((_, i) => (held.labels[i] === undefined || held.labels[i] === null ? COLOURS[0] : COLOURS[held.labels[i] % COLOURS.length])) });
    right.draw(drawn, { limits });
    left.mark(placed);
  }
  draw();
  return {
    node: h("div", { class: "map" },
      encoder.dim > 2 && axisChoice(encoder.dim, plane, (chosen) => { axes = chosen; draw(); }),
      h("div", { class: "pair" },
        h("figure", {}, left.node, h("figcaption", {}, `${count(held.rows.length)} of ${counted(held.total, "held-out picture")}`)),
        h("figure", {}, right.node, h("figcaption", {}, `${counted(sample.length, "draw")} from the law, same axes`))),
      legend(held), detail),
    mark(key, mark) {
      marks.set(key, mark);
      draw();
    },
    onEnd(callback) { chooseEnd = callback; },
    name,
  };
}

const padded = ([low, high]) => [low - 0.04 * (high - low), high + 0.04 * (high - low)];

/** Thumbnails of held-out pictures. */
export function alike(held, indices, name) {
  return h("div", { class: "sheet small" }, indices.map((i) => picture(held.pictures, i, name(i), { size: 48 })));
}

function axisChoice(dim, plane, choose) {
  const options = () => Array.from({ length: Math.min(dim, 512) }, (_, j) => h("option", { value: j }, `coordinate ${j + 1}`));
  const mode = h("select", { id: "axes", onchange: update }, h("option", { value: "plane" }, `principal directions (${percent(plane.share)} of the variance)`), h("option", { value: "two" }, "two coordinates"));
  const x = h("select", { "aria-label": "horizontal axis", onchange: update }, options());
  const y = h("select", { "aria-label": "vertical axis", onchange: update }, options());
  y.value = "1";
  const pair = h("span", { hidden: true }, x, " ", y);
  function update() {
    pair.hidden = mode.value === "plane";
    choose(mode.value === "plane" ? plane.directions : [Number(x.value), Number(y.value)]);
  }
  return h("div", { class: "toolbar" }, h("label", { for: "axes" }, "Axes"), mode, pair);
}

function legend(held) {
  const present = [...new Set(held.labels)].filter((label) => label !== null && label !== undefined).sort((a, b) => a - b);
  if (!present.length || present.length > COLOURS.length) return null;
  return h("ul", { class: "legend" }, present.map((label) => {
    const key = h("i", { class: "key dot" });
    key.style.background = COLOURS[label % COLOURS.length];
    return h("li", {}, key, ` ${held.classes[label]}`);
  }));
}
