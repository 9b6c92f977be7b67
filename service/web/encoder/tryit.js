// A picture of one's own: its embedding, how unusual it is, the held-out pictures most like it.

import { fill, h } from "/static/lib/dom.js";
import { nearest, number } from "/static/lib/numbers.js";
import { preview } from "/static/lib/pictures.js";
import { problem } from "/static/parts/bits.js";
import { dropzone } from "/static/parts/dropzone.js";
import { embed, score, unusual } from "/static/encoder/held.js";
import { alike } from "/static/encoder/map.js";

const SHOWN = 8;

/** `found` is a promise of { held, map }, or of null where the pictures of the encoder are gone. */
export function tryIt(encoder, found) {
  const outcome = h("div", { class: "outcome", "aria-live": "polite" });
  const take = async (file) => {
    fill(outcome, h("p", { class: "note" }, `embedding ${file.name}…`));
    try {
      fill(outcome, await judged(encoder, file, await found));
    } catch (error) {
      fill(outcome, problem(error));
    }
  };
  return h("div", {}, dropzone({ label: "Drop a picture, or choose one", hint: "It is embedded and forgotten.", accept: "image/*", instead: "Drop one picture.", take }), outcome);
}

async function judged(encoder, file, around) {
  const form = new FormData();
  form.set("images", file);
  const [row] = await embed(encoder, form);
  const { p_value: [p], log_prob: [logProb], p_conformal: ranks } = await score(encoder, [row]);
  around?.map.mark("tried", { row, label: "yours" });
  const numbers = [...row].slice(0, SHOWN).map((value) => number(value)).join(", ");
  return h("div", { class: "found" },
    await preview(file, file.name, 112),
    h("dl", { class: "facts" },
      h("dt", {}, "p-value"), h("dd", { id: "tried-p" }, number(p, 3), h("span", { class: "note" }, ` ${unusual(p, encoder.prior)}`)),
      ...(ranks ? [h("dt", {}, "Among held-out"), h("dd", {}, number(ranks[0], 3), h("span", { class: "note" }, " share of held-out pictures that are as unusual"))] : []),
      h("dt", {}, "log density"), h("dd", {}, `${number(logProb)} nats`),
      h("dt", {}, "Embedding"), h("dd", {}, h("code", {}, `[${numbers}${row.length > SHOWN ? ", …" : ""}]`)),
      h("dt", {}, "Most like it"), h("dd", { id: "tried-alike" }, around
        ? alike(around.held, nearest(around.held.rows, row, SHOWN), around.map.name)
        : h("span", { class: "note" }, "the pictures that it was trained on are gone"))));
}
