// Trainings beside each other: their curves on one chart, how they differ, how they ended.

import { get } from "/static/lib/api.js";
import { h } from "/static/lib/dom.js";
import { number, percent, probability } from "/static/lib/numbers.js";
import { link } from "/static/lib/router.js";
import { badge, card, empty, head, linkButton, table } from "/static/parts/bits.js";
import { LINES, curve } from "/static/parts/curve.js";

export const ONE_KIND = "Trainings of encoders and of generators have no figures in common: compare some of one kind.";

const OF_ENCODERS = [
  ["Î, nats", (report) => number(report?.mi_nats)],
  ["Capacity C, nats", (report) => number(report?.capacity_nats)],
  ["KL ≤ (95 %), nats", (report) => number(report?.kl_bound_upper95_nats)],
  ["Henze–Zirkler p (true draws)", (report) => (report ? `${probability(report.hz_p)} (${probability(report.hz_p_null)})` : "–")],
  ["SW2 / floor", (report) => number(report?.sw2_ratio, 1)],
  ["Linear accuracy", (report) => percent(report?.linear)],
  ["kNN accuracy", (report) => percent(report?.knn)],
];

const OF_GENERATORS = [
  ["Prior gap", (report) => number(report?.prior_gap)],
  ["Fréchet distance, draws from the law", (report) => number(report?.prior?.frechet_distance, 1)],
  ["Fréchet distance, by embeddings", (report) => number(report?.heldout?.frechet_distance, 1)],
  ["Fréchet distance, real pictures among each other", (report) => number(report?.floor, 1)],
];

export async function compare(_, query, signal) {
  const ids = (query.get("ids") ?? "").split(",").filter(Boolean).slice(0, LINES);
  const runs = await Promise.all(ids.map(async (id) => {
    const job = await get(`/v1/jobs/${id}`, { signal });
    const events = await get(`/v1/jobs/${id}/events`, { signal });
    const report = job.result ? await get(`/v1/${job.kind === "generator" ? "generators" : "encoders"}/${job.result.id}/report`, { signal }).catch(() => null) : null; // what came of it may have been deleted
    const points = events.items.filter(({ type }) => type === "metric").map(({ data }) => [data.step, job.kind === "generator" ? data.loss : data.mi_nats ?? -data.loss]);
    return { job, report, points };
  }));
  if (new Set(runs.map(({ job }) => job.kind)).size > 1) return [head("Compare trainings"), empty(ONE_KIND, linkButton("Trainings", link("/jobs")))];
  const generators = runs[0]?.job.kind === "generator";
  const title = generators ? "Loss" : "Information";
  const names = runs.map(({ job }, i) => `${i + 1} ${job.encoder ?? job.generator ?? job.id}`);
  const chart = curve({ title: `${title} over the trainings`, x: "step", y: generators ? "loss" : "nats" });
  chart.draw(runs.map(({ points }, i) => ({ name: names[i], points })));
  const columns = ["", ...names];
  return [
    head("Compare trainings", "Only settings that differ are shown."),
    card(title, chart.node),
    card("How they ended", table("How they ended", columns, [
      ["State", ...runs.map(({ job }) => h("a", { href: link(`/jobs/${job.id}`) }, badge(job.state)))],
      ...(generators ? OF_GENERATORS : OF_ENCODERS).map(([name, of]) => [name, ...runs.map(({ report }) => of(report))]),
    ])),
    card("How they differ", table("How they differ", columns, differences(runs.map(({ job }) => flat(job.spec))))),
  ];
}

function flat(value, prefix = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return { [prefix]: JSON.stringify(value) };
  return Object.assign({}, ...Object.entries(value).map(([key, part]) => flat(part, prefix ? `${prefix}.${key}` : key)));
}

function differences(specs) {
  const names = [...new Set(specs.flatMap((spec) => Object.keys(spec)))].sort();
  const rows = names.filter((name) => new Set(specs.map((spec) => spec[name])).size > 1).map((name) => [h("code", {}, name), ...specs.map((spec) => spec[name] ?? "–")]);
  return rows.length ? rows : [["nothing", ...specs.map(() => "the same")]];
}
