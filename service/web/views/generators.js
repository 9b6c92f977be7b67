// Generators: draw new pictures from the law, walk between two, make pictures like one's own.

import { get, has, request } from "/static/lib/api.js";
import { fill, h } from "/static/lib/dom.js";
import { picture, picturesFrom, preview } from "/static/lib/pictures.js";
import { link } from "/static/lib/router.js";
import { button, card, empty, head, linkButton, problem, table, when } from "/static/parts/bits.js";
import { dropzone } from "/static/parts/dropzone.js";
import { between, draws } from "/static/encoder/held.js";

const NPY = "application/x-npy";
const STEPS = 15;
const NOT_HERE = "This server makes no generators.";

export async function generators(_, __, signal) {
  const title = head("Generators", "Networks that draw new pictures from the law of an encoder.");
  if (!(await has("/v1/generators"))) return [title, empty(NOT_HERE)];
  const { items } = await get("/v1/generators?limit=100", { signal });
  const rows = items.map((one) => [h("a", { href: link(`/generators/${one.id}`) }, `${one.name}@${one.version}`), one.source, one.dim, sizeOf(one), when(one.created_at)]);
  return [title, rows.length
    ? table("Generators", ["Name", "Encoder", "d", "Pictures", "Made"], rows)
    : empty("No generator yet. Open an encoder and press “Make a generator”.", linkButton("Encoders", link("/encoders")))];
}

const sizeOf = ({ resolved: { image_size: size, channels } }) => `${size} × ${size}, ${channels === 1 ? "gray" : "colour"}`;

export async function generator({ ref }, _, signal) {
  if (!(await has("/v1/generators"))) return [head("Generators", NOT_HERE)];
  const found = await get(`/v1/generators/${ref}`, { signal });
  const source = await get(`/v1/encoders/${found.source}`, { signal }).catch(() => null);
  return [
    head(`${found.name}@${found.version}`, h("span", {}, "Draws pictures from the law of ", h("a", { href: link(`/encoders/${found.source}`) }, found.source), ", made ", when(found.created_at))),
    card("New pictures", drawing(found)),
    card("Like one of yours", conditioned(found)),
    source && card("From one draw to another", morph(found, source)),
    h("details", { class: "card" }, h("summary", {}, "Report and settings"), h("pre", { tabindex: "0" }, JSON.stringify({ report: found.report, spec: found.spec }, null, 2))),
  ].filter(Boolean);
}

async function generated(found, options) {
  const answer = await request(`/v1/generators/${found.id}/generate`, { method: "POST", accept: NPY, ...options });
  return picturesFrom(await answer.arrayBuffer());
}

const sheetOf = (shown, size, name) => Array.from({ length: shown.n }, (_, i) => picture(shown, i, `${name} ${i + 1}`, { size }));

function drawing(found) {
  const sheet = h("div", { class: "sheet", id: "drawn", "aria-live": "polite" });
  const seed = h("input", { id: "seed", type: "number", min: 0, value: 0, onchange: () => show() });
  const n = h("select", { id: "many", onchange: () => show() }, [16, 36, 64].map((many) => h("option", { value: many }, many)));
  async function show() {
    sheet.setAttribute("aria-busy", "true");
    try {
      fill(sheet, sheetOf(await generated(found, { json: { n: Number(n.value), seed: Number(seed.value) } }), 72, "drawn picture"));
    } catch (error) {
      fill(sheet, problem(error));
    }
    sheet.removeAttribute("aria-busy");
  }
  show();
  const more = button("Draw others", () => { seed.value = Number(seed.value) + 1; show(); }, { class: "primary" });
  return h("div", {}, h("div", { class: "toolbar" }, more, h("label", { for: "many" }, "How many"), n, h("label", { for: "seed" }, "Seed"), seed), sheet);
}

function conditioned(found) {
  const outcome = h("div", { class: "outcome", "aria-live": "polite" });
  const take = async ([file]) => {
    fill(outcome, h("p", { class: "note" }, "drawing…"));
    try {
      const form = new FormData();
      form.set("images", file);
      const shown = await generated(found, { body: form });
      fill(outcome, h("div", { class: "sheet" }, h("figure", {}, await preview(file, file.name, 112), h("figcaption", {}, "yours")),
        h("figure", {}, ...sheetOf(shown, 112, "drawn from yours"), h("figcaption", {}, "drawn from its embedding"))));
    } catch (error) {
      fill(outcome, problem(error));
    }
  };
  return h("div", {}, dropzone({ label: "Drop a picture, or choose one", hint: "Its embedding is drawn again.", accept: "image/*", take }), outcome);
}

function morph(found, source) {
  const strip = h("div", { class: "sheet", "aria-live": "polite" });
  const now = h("figure");
  const slider = h("input", { id: "morph", type: "range", min: 0, max: STEPS - 1, value: 0, oninput: () => step() });
  let shown = null;
  let seed = 0;
  const step = () => shown && fill(now, picture(shown, Number(slider.value), `step ${Number(slider.value) + 1}`, { size: 144 }));
  async function show() {
    try {
      const [a, b] = await draws(source, 2, seed);
      shown = await generated(found, { json: { embeddings: await between(source, a, b, STEPS) } });
      fill(strip, sheetOf(shown, 48, "step"));
      step();
    } catch (error) {
      fill(strip, problem(error));
    }
  }
  show();
  return h("div", { class: "walk" }, now, h("label", { for: "morph" }, "Along the way"), slider, strip,
    h("p", { class: "actions" }, button("Two other draws", () => { seed += 1; show(); })));
}
