// One training, live: progress, the curve of its information, its log, cancel and retry.

import { get, post } from "/static/lib/api.js";
import { announce, fill, h } from "/static/lib/dom.js";
import { follow } from "/static/lib/events.js";
import { count, counted, duration, number } from "/static/lib/numbers.js";
import { go, link } from "/static/lib/router.js";
import { badge, card, figures, head, linkButton, problem, warning, when, worker } from "/static/parts/bits.js";
import { curve } from "/static/parts/curve.js";

const LONG_S = 3600;
const ENDED = ["succeeded", "failed", "cancelled"];

export async function job({ id }, _, signal) {
  let known = await get(`/v1/jobs/${id}`, { signal });
  const seen = { points: [], log: [], warnings: [...known.warnings], progress: known.progress, metrics: known.metrics };
  const parts = pieces(known.kind === "generator");
  const show = () => draw(known, seen, parts);
  const refresh = async () => {
    known = await get(`/v1/jobs/${id}`, { signal });
    seen.warnings = [...known.warnings];
    seen.progress = known.progress;
    show();
    if (ENDED.includes(known.state)) announce(`The training has ${known.state === "succeeded" ? "succeeded" : `ended: ${known.state}`}.`);
  };
  let due = false;
  const soon = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; show(); });
  };
  const take = ({ type, data, at }) => {
    if (type === "metric") { seen.points.push([data.step, known.kind === "generator" ? data.loss : data.mi_nats ?? -data.loss]); seen.metrics = { ...seen.metrics, ...data }; }
    if (type === "progress") seen.progress = data;
    if (type === "log") seen.log.push([at, data.message]);
    if (type === "warning" && !seen.warnings.some((one) => one.code === data.code)) seen.warnings.push(data);
    if (type === "state") refresh().catch(() => {});
    soon();
  };
  const lost = (error) => fill(parts.trouble, error && h("p", { class: "problem", role: "alert" }, `✕ ${error.message} What is shown is how it stood; the page looks again.`));
  follow(`/v1/jobs/${id}/events`, take, signal, lost).catch((error) => fill(parts.trouble, problem(error)));
  show();
  const name = known.encoder ?? known.generator ?? id;
  return [
    head(name, h("span", {}, known.kind === "generator" ? "Training of a generator" : "Training of an encoder", known.spec.dataset ? ` on ${known.spec.dataset}` : "", ", submitted ", when(known.created_at)), parts.actions),
    parts.state, parts.trouble,
    h("section", { class: "card", "aria-label": "Progress" }, parts.bar, parts.figures, parts.chart.node),
    parts.warnings,
    h("details", { class: "card", open: true }, h("summary", {}, "Log"), parts.log),
    h("details", { class: "card" }, h("summary", {}, "Settings"), h("pre", { tabindex: "0" }, JSON.stringify({ spec: known.spec, resolved: known.resolved }, null, 2))),
  ];
}

function pieces(generates) {
  return {
    state: h("div", { class: "state", role: "status", tabindex: "-1" }),
    trouble: h("div"),
    actions: h("span", { class: "actions" }),
    bar: h("progress", { max: 1, "aria-label": "progress of the training" }),
    figures: h("div"),
    chart: generates ? curve({ title: "Loss over the training", x: "step", y: "loss" }) : curve({ title: "Information over the training", x: "step", y: "nats" }),
    warnings: h("div"),
    log: h("ol", { class: "log", role: "log", tabindex: "0", "aria-label": "log of the training" }),
    drawn: {},
  };
}

function draw(known, seen, parts) {
  const { step, steps, epoch, epochs, images_per_s: speed, eta_s: left } = seen.progress ?? {};
  const running = known.state === "running";
  const share = steps ? step / steps : 0;
  if (known.state === "queued" || (running && !step)) parts.bar.removeAttribute("value");
  else parts.bar.value = known.state === "succeeded" ? 1 : share;
  fill(parts.figures, figures([
    ["Done", known.state === "succeeded" ? "100 %" : `${Math.floor(100 * share)} %`, `${count(step)} of ${counted(steps, "step")}`],
    ["Passes", `${epoch ?? 0} of ${epochs ?? "–"}`],
    known.kind === "generator" ? ["Loss", number(seen.metrics.loss, 3)] : ["Î", `${number(seen.metrics.mi_nats)} nats`, "information that the embedding keeps"],
    running && speed && ["Speed", `${count(Math.round(speed))} / s`, "pictures"],
    running && ["Left", share >= 1 ? "evaluating…" : duration(left), expected(known.kind, speed, left)],
  ].filter(Boolean)));
  const capacity = known.resolved?.capacity_nats;
  const batch = known.resolved?.batch_size;
  parts.chart.draw([{ name: known.kind === "generator" ? "loss" : "Î", points: seen.points }],
    [capacity && { name: "capacity C", y: capacity }, known.kind !== "generator" && batch && { name: "log batch", y: Math.log(batch) }].filter(Boolean));
  if (parts.drawn.warnings !== seen.warnings.length) {
    parts.drawn.warnings = seen.warnings.length;
    fill(parts.warnings, seen.warnings.length > 0 && card("Advice", h("ul", { class: "warnings" }, seen.warnings.map(warning))));
  }
  if (parts.drawn.log !== seen.log.length) {
    parts.drawn.log = seen.log.length;
    fill(parts.log, seen.log.length ? seen.log.map(([at, message]) => h("li", {}, h("time", { datetime: at }, new Date(at).toLocaleTimeString()), ` ${message}`)) : h("li", {}, "nothing yet"));
    parts.log.scrollTop = parts.log.scrollHeight;
  }
  if (parts.drawn.state !== known.state + known.cancel_requested) {
    parts.drawn.state = known.state + known.cancel_requested;
    const held = parts.actions.contains(document.activeElement);
    fill(parts.state, ...told(known));
    fill(parts.actions, ...actions(known));
    if (held) parts.state.focus();
  }
}

/** Beside the time that is left: why none is known yet, or what to do about a long one. */
function expected(kind, speed, left) {
  if (!speed) return "known after the first steps; without a GPU a large network takes minutes to get there";
  return kind === "train" && left > LONG_S && "too long for a first look? Cancel it, then “Change and train again” and “Set a small training”";
}

function told(known) {
  if (known.state === "queued") return [badge("queued"), " It begins as soon as a worker is free."];
  if (known.state === "running") return [badge("running"), known.cancel_requested ? " It is being cancelled." : " You may leave this page; the training goes on."];
  if (known.state === "failed") return [badge("failed"), ` ${known.failure?.message ?? ""}`];
  if (known.state === "cancelled") return [badge("cancelled"), " A retry goes on from its last checkpoint."];
  return [badge("succeeded"), ` Version ${known.result?.version} is registered. `, resultLink(known)].filter(Boolean);
}

function resultLink(known) {
  if (!known.result) return null;
  const { id } = known.result;
  return id.startsWith("gen_")
    ? linkButton("Open the generator", link(`/generators/${id}`), { class: "button primary" })
    : linkButton("Open the encoder", link(`/encoders/${id}`), { class: "button primary" });
}

function actions(known) {
  const again = linkButton("Change and train again", link(known.kind === "generator" ? "/generate" : "/train", { from: known.id }));
  if (!ENDED.includes(known.state)) {
    return [worker("Cancel", () => post(`/v1/jobs/${known.id}/cancel`), { class: "danger", disabled: known.cancel_requested })];
  }
  const retry = ["failed", "cancelled"].includes(known.state) && worker("Retry", async () => go(`/jobs/${(await post(`/v1/jobs/${known.id}/retry`)).id}`), { class: "primary" });
  return [retry, again].filter(Boolean);
}
