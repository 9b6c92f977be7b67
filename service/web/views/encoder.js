// One encoder: what is certified, its map beside the law, a picture of one's own, a walk, the match, the files.

import { get, has, key, post, request } from "/static/lib/api.js";
import { download, fill, h } from "/static/lib/dom.js";
import { bytes, counted, number, percent, probability } from "/static/lib/numbers.js";
import { go, link } from "/static/lib/router.js";
import { button, card, figures, head, linkButton, problem, table, when, worker } from "/static/parts/bits.js";
import { curve } from "/static/parts/curve.js";
import { draws, heldOut } from "/static/encoder/held.js";
import { drift } from "/static/encoder/drift.js";
import { map } from "/static/encoder/map.js";
import { match } from "/static/encoder/match.js";
import { tryIt } from "/static/encoder/tryit.js";
import { walk } from "/static/encoder/walk.js";
import { nameFor, versionOf } from "/static/views/generate.js";

const LEAST_HELD_OUT = 8; // of a generator, to be measured

export async function encoder({ ref }, _, signal) {
  const found = await get(`/v1/encoders/${ref}`, { signal });
  const [report, words, canGenerate] = await Promise.all([
    get(`/v1/encoders/${found.id}/report`, { signal }).catch(() => found.report), certificate(found, signal), has("/v1/generators"),
  ]);
  const places = Object.fromEntries(["map", "walk", "match"].map((name) => [name, h("div", {}, h("p", { class: "note" }, "loading held-out pictures…"))]));
  const watch = drift(found, signal);
  const around = surroundings(found, places, report, signal);
  return [
    head(`${found.name}@${found.version}`, h("span", {}, `${counted(found.dim, "number")} a picture, from `, h("a", { href: link(`/datasets/${found.spec.dataset}`) }, found.spec.dataset), ", made ", when(found.created_at)),
      ...(canGenerate ? generatorMakers(found) : []), reportLink(found)),
    watch.flag,
    found.state === "degraded" && h("p", { class: "problem", role: "alert" }, found.degraded.detail),
    h("p", { class: "sentence" }, words),
    summary(report),
    card("Try it", tryIt(found, around)),
    card("The map beside the law", places.map),
    card("From one picture to another", places.walk),
    card("Coordinate by coordinate", places.match),
    training(report),
    card("Drift", watch.node),
    await filesOf(found, signal),
    h("details", { class: "card" }, h("summary", {}, "Settings"), h("pre", { tabindex: "0" }, JSON.stringify({ spec: found.spec, resolved: found.resolved }, null, 2))),
  ].filter(Boolean);
}

/** Fill the places that need held-out pictures; { held, map }, or null where there are none. */
async function surroundings(found, places, report, signal) {
  try {
    const held = await heldOut(found, signal);
    const drawn = map(found, held, await draws(found, held.rows.length));
    const trained = report.provenance?.dataset?.digest;
    const others = trained && held.digest && trained !== held.digest;
    fill(places.map, others && h("p", { class: "warning" }, "▲ The pictures of this name are others than those that it was trained on."), drawn.node);
    fill(places.walk, walk(found, { held, map: drawn }));
    fill(places.match, match(found, { held }));
    return { held, map: drawn };
  } catch (error) {
    if (error.name === "AbortError") return null;
    const gone = [404, 409].includes(error.status);
    for (const place of Object.values(places)) {
      fill(place, gone ? h("p", { class: "note" }, `Needs the pictures of ${found.spec.dataset}, which are not on this server.`) : problem(error));
    }
    return null;
  }
}

/** The certificate in words, as the model card has it. */
async function certificate(found, signal) {
  try {
    const text = await (await request(`/v1/encoders/${found.id}/files/README.md`, { signal, accept: "text/markdown" })).text();
    const lines = text.split("\n");
    const start = lines.findIndex((line) => line.startsWith("A self-supervised image encoder"));
    return lines.slice(start + 1, lines.indexOf("", start)).join(" ");
  } catch {
    return "";
  }
}

function summary(report) {
  const measured = (name) => typeof report[name] === "number";
  return figures([
    measured("kl_bound_upper95_nats") && ["KL ≤ (95 %)", `${number(report.kl_bound_upper95_nats)} nats`, "how far the noisy law can be from the promised one"],
    measured("mi_nats") && ["Information Î", `${number(report.mi_nats)} nats`, measured("capacity_nats") && `of at most C = ${number(report.capacity_nats)}`],
    measured("sw2_ratio") && ["SW2 / floor", number(report.sw2_ratio, 1), "distance of the clean law; 1 is a perfect match"],
    measured("hz_p") && ["Henze–Zirkler p", probability(report.hz_p), measured("hz_p_null") && `true draws ${probability(report.hz_p_null)}`],
    measured("linear") && ["Linear accuracy", percent(report.linear), measured("knn") && `kNN ${percent(report.knn)}`],
  ].filter(Boolean));
}

function training(report) {
  if (!report.history?.length) return null;
  const chart = curve({ title: "Information over the training", x: "step", y: "nats" });
  const levels = [report.trained_with_noise && report.capacity_nats && { name: "capacity C", y: report.capacity_nats }, report.batch_size > 1 && { name: "log batch", y: Math.log(report.batch_size) }];
  chart.draw([{ name: "Î", points: report.history.filter(({ mi_nats: value }) => value !== null && value !== undefined).map(({ step, mi_nats: value }) => [step, value]) }], levels.filter(Boolean));
  return card("The training", chart.node);
}

/** Without a key the page can be opened as it is; with one it has to be fetched, and is saved. */
function reportLink(found) {
  const path = `/v1/encoders/${found.id}/report`;
  if (!key.get()) return linkButton("Full report", path, { target: "_blank", rel: "noopener" });
  return worker("Save the full report", async () => download(await (await request(path, { accept: "text/html" })).blob(), `${found.name}-${found.version}-report.html`));
}

/** At once, by the defaults; or after a choice of settings. */
function generatorMakers(found) {
  const heldOut = found.resolved.n_heldout;
  if (heldOut < LEAST_HELD_OUT) {
    return [button("Make a generator", null, { disabled: true }), h("span", { class: "note" }, `A generator is measured with at least ${LEAST_HELD_OUT} held-out pictures; this encoder has ${heldOut}: bring about ${10 * LEAST_HELD_OUT} pictures, or a folder test with ${LEAST_HELD_OUT}.`)];
  }
  const source = versionOf(found);
  const now = worker("Make a generator", async () => {
    const body = { spec: { kind: "generator", source }, generator: nameFor(found.name) };
    go(`/jobs/${(await post("/v1/jobs", body)).id}`);
  }, { class: "primary", title: "Train a network that draws new pictures from the law" });
  return [now, linkButton("Choose its settings", link("/generate", { source }), { title: "Choose the settings of a generator, then train it" })];
}

async function filesOf(found, signal) {
  const { items } = await get(`/v1/encoders/${found.id}/files`, { signal });
  const save = ({ name, media_type: accept }) => worker(`Save ${name}`, async () => {
    download(await (await request(`/v1/encoders/${found.id}/files/${name}`, { accept: accept.split(";")[0] })).blob(), name);
  });
  return h("details", { class: "card" }, h("summary", {}, "Files"),
    table("Files of the encoder", ["Name", "Size", ""], items.map((file) => [h("code", {}, file.name), bytes(file.size), save(file)])));
}
