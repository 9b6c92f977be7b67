// Does the embedding follow the law: Q–Q plots of its coordinates against draws.

import { fill, h } from "/static/lib/dom.js";
import { problem } from "/static/parts/bits.js";
import { SETS, qq } from "/static/parts/qq.js";
import { draws } from "/static/encoder/held.js";

const COORDINATES = 8;
const MOST_VALUES = 4_000_000;
const LEAST = 20;

export function match(encoder, { held }) {
  const n = Math.min(held.rows.length, Math.floor(MOST_VALUES / (SETS * encoder.dim)));
  const place = h("div", { class: "qqs" }, h("p", { class: "note" }, "drawing from the law…"));
  const caption = h("p", { class: "note" }, `Quantiles of ${n} held-out embeddings, against those of the law. The gray band is the range of ${SETS} sets of as many true draws, each quantile for itself: about one in twenty leaves it under the law, and neighbours leave it together.`);
  if (n < LEAST) return h("p", { class: "note" }, "Too few held-out pictures for Q–Q plots.");
  draws(encoder, n * SETS, 1).then((rows) => {
    const sets = Array.from({ length: SETS }, (_, k) => rows.slice(k * n, (k + 1) * n));
    const shown = Math.min(COORDINATES, encoder.dim);
    fill(place, Array.from({ length: shown }, (_, j) =>
      qq(`coordinate ${j + 1}`, held.rows.slice(0, n).map((row) => row[j]), sets.map((set) => set.map((row) => row[j])))));
  }).catch((error) => fill(place, problem(error)));
  return h("div", {}, place, caption);
}
