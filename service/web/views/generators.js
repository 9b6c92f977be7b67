// Generators: draw new pictures from the law, walk between two, make pictures like one's own.

import { get, has, request } from "/static/lib/api.js";
import { fill, h } from "/static/lib/dom.js";
import { number, percent } from "/static/lib/numbers.js";
import { picture, picturesFrom, preview } from "/static/lib/pictures.js";
import { link } from "/static/lib/router.js";
import { button, card, empty, figures, head, linkButton, problem, table, when } from "/static/parts/bits.js";
import { curve } from "/static/parts/curve.js";
import { dropzone } from "/static/parts/dropzone.js";
import { between, draws } from "/static/encoder/held.js";

const NPY = "application/x-npy";
const STEPS = 15;
export const NOT_HERE = "This server makes no generators.";

export async function generators(_, query, signal) {
  const lead = "Networks that draw new pictures from the law of an encoder.";
  if (!(await has("/v1/generators"))) return [head("Generators", lead), empty(NOT_HERE)];
  const title = head("Generators", lead, linkButton("Train a generator", link("/generate"), { class: "button primary" }));
  const after = query.get("cursor");
  const { items, next_cursor: cursor } = await get(`/v1/generators?limit=50${after ? `&cursor=${encodeURIComponent(after)}` : ""}`, { signal });
  const rows = items.map((one) => [
    h("a", { href: link(`/generators/${one.id}`) }, `${one.name}@${one.version}`), number(one.report.prior_gap),
    sourceLink(one), one.dim, sizeOf(one), one.spec.model.kind.replaceAll("_", " "), when(one.created_at),
  ]);
  if (!rows.length) return [title, empty("No generator yet. Open an encoder and press “Make a generator”.", linkButton("Encoders", link("/encoders")))];
  return [title, table("Generators", ["Name", "Prior gap", "Encoder", "d", "Pictures", "Model", "Made"], rows),
    h("p", { class: "note" }, "A prior gap near 1 says little of the law where the pictures are poor: the page of a generator tells."),
    cursor && linkButton("Older ones", link("/generators", { cursor }))].filter(Boolean);
}

const sourceLink = ({ source }) => h("a", { href: link(`/encoders/${source}`) }, source);

const sizeOf = ({ resolved: { image_size: size, channels } }) => `${size} × ${size}, ${channels === 1 ? "gray" : "colour"}`;

export async function generator({ ref }, _, signal) {
  if (!(await has("/v1/generators"))) return [head("Generators", NOT_HERE)];
  const found = await get(`/v1/generators/${ref}`, { signal });
  const [source, { history, ...report }, words] = await Promise.all([
    get(`/v1/encoders/${found.source}`, { signal }).catch(() => null),
    get(`/v1/generators/${found.id}/report`, { signal }).catch(() => found.report), gapInWords(found, signal),
  ]);
  return [
    head(`${found.name}@${found.version}`, h("span", {}, "Draws pictures from the law of ", sourceLink(found), ", made ", when(found.created_at))),
    summary(report),
    words && h("p", { class: "sentence" }, words),
    card("New pictures", drawing(found)),
    card("Like one of yours", conditioned(found)),
    source && card("From one draw to another", morph(found, source)),
    training(history),
    h("details", { class: "card" }, h("summary", {}, "Report and settings"), h("pre", { tabindex: "0" }, JSON.stringify({ report, spec: found.spec }, null, 2))),
  ].filter(Boolean);
}

/** What the prior gap says, and where it says little, as the model card has it. */
async function gapInWords(found, signal) {
  try {
    const text = await (await request(`/v1/generators/${found.id}/files/README.md`, { signal, accept: "text/markdown" })).text();
    return text.split("\n").find((line) => line.startsWith("Images made from draws"));
  } catch {
    return null;
  }
}

/** How far drawn pictures are from real ones, by the law and by embeddings of held-out pictures. */
function summary({ prior_gap: gap, prior_gap_sd: sd, floor, prior, heldout }) {
  return figures([
    ["Prior gap", number(gap), sd ? `± ${number(sd)}; 1: the law is as good as embeddings` : "1: the law is as good as embeddings"],
    prior && ["Fréchet distance", number(prior.frechet_distance, 1), "of pictures from draws of the law"],
    heldout && ["By embeddings", number(heldout.frechet_distance, 1), `of held-out pictures; real ones among each other ${number(floor, 1)}`],
    prior && ["Precision", percent(prior.precision), `lie among real ones; recall ${percent(prior.recall)}`],
    typeof heldout?.class_agreement === "number" && ["Same class", percent(heldout.class_agreement), "as the picture whose embedding was drawn"],
  ].filter(Boolean));
}

function training(history) {
  if (!history?.length) return null;
  const chart = curve({ title: "Loss over the training", x: "step", y: "loss" });
  chart.draw([{ name: "loss", points: history.map(({ step, loss }) => [step, loss]) }], []);
  return card("The training", chart.node);
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
    if (!sheet.querySelector("canvas")) fill(sheet, h("p", { class: "note" }, "drawing…"));
    try {
      fill(sheet, sheetOf(await generated(found, { json: { n: Number(n.value), seed: Number(seed.value) } }), 72, "drawn picture"));
    } catch (error) {
      fill(sheet, problem(error));
    }
    sheet.removeAttribute("aria-busy");
  }
  show();
  const more = button("Draw others", () => { seed.value = Number(seed.value) + 1; show(); }, { class: "primary" });
  const labelled = (text, field) => h("span", { class: "labelled" }, h("label", { for: field.id }, text), field);
  return h("div", {}, h("div", { class: "toolbar" }, more, labelled("How many", n), labelled("Seed", seed)), sheet);
}

function conditioned(found) {
  const outcome = h("div", { class: "outcome", "aria-live": "polite" });
  const take = async (file) => {
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
  return h("div", {}, dropzone({ label: "Drop a picture, or choose one", hint: "Its embedding is drawn again.", accept: "image/*", instead: "Drop one picture.", take }), outcome);
}

function morph(found, source) {
  const strip = h("div", { class: "sheet", "aria-live": "polite" }, h("p", { class: "note" }, "drawing…"));
  const now = h("figure");
  const slider = h("input", { id: "morph", type: "range", min: 0, max: STEPS - 1, value: 0, oninput: () => step() });
  let shown = null;
  let seed = 0;
  const step = () => shown && fill(now, picture(shown, Number(slider.value), `step ${Number(slider.value) + 1}`, { size: 144 }));
  async function show() {
    try {
      const [a, b] = await draws(source, 2, seed);
      shown = await generated(found, { json: { embeddings: await between(source, a, b, STEPS), same_noise: true } });
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
