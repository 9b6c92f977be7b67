// Q–Q plots of coordinates against draws from the law, with the range of many sets of as many draws.

import { h, s } from "/static/lib/dom.js";

const SIDE = 150;
const PAD = 8;
export const SETS = 39;

/** `values` (n) of one coordinate; `sets`: SETS lists of n draws. A dot outside the band is one that no set reached. */
export function qq(name, values, sets) {
  const sorted = [...values].sort((a, b) => a - b);
  const orders = sets.map((set) => [...set].sort((a, b) => a - b));
  const n = sorted.length;
  const middle = Array.from({ length: n }, (_, i) => orders.reduce((sum, set) => sum + set[i], 0) / orders.length);
  const low = middle.map((_, i) => Math.min(...orders.map((set) => set[i])));
  const high = middle.map((_, i) => Math.max(...orders.map((set) => set[i])));
  const [from, to] = [Math.min(middle[0], sorted[0]), Math.max(middle[n - 1], sorted[n - 1])];
  const at = (value) => PAD + ((value - from) / (to - from || 1)) * (SIDE - 2 * PAD);
  const clamped = (value) => Math.min(Math.max(at(value), 0), SIDE);
  const place = (a, b) => `${at(a).toFixed(1)} ${(SIDE - clamped(b)).toFixed(1)}`;
  const band = [...low.map((value, i) => place(middle[i], value)), ...high.map((value, i) => place(middle[i], value)).reverse()];
  const outside = sorted.filter((value, i) => value < low[i] || value > high[i]).length;
  const label = `${name}: ${outside} of ${n} quantiles leave the band of true draws`;
  const svg = s("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", "aria-label": label, class: "qq" },
    s("path", { class: "band", d: `M${band.join("L")}Z` }),
    s("line", { class: "grid", x1: at(from), x2: at(to), y1: SIDE - at(from), y2: SIDE - at(to) }),
    s("path", { class: "line l0", d: `M${sorted.map((value, i) => place(middle[i], value)).join("L")}` }));
  return h("figure", {}, svg, h("figcaption", {}, `${name}: ${outside === 0 ? "within" : `${outside} of ${n} outside`}`));
}
