// What to do next: bring pictures, train, use. And what happened lately.

import { all, get, has } from "/static/lib/api.js";
import { h, s } from "/static/lib/dom.js";
import { link } from "/static/lib/router.js";
import { badge, head, linkButton, when } from "/static/parts/bits.js";
import { uploader } from "/static/parts/upload.js";
import { versionOf } from "/static/views/generate.js";

export async function home(_, __, signal) {
  const generators = (await has("/v1/generators")) ? get("/v1/generators?limit=5", { signal }) : null;
  const [datasets, jobs, encoders, drawn] = await Promise.all([
    all("/v1/datasets", 200), get("/v1/jobs?limit=6", { signal }), get("/v1/encoders?limit=6", { signal }), generators,
  ]);
  const own = datasets.filter((dataset) => dataset.kind === "uploaded" && dataset.state === "ready");
  const running = jobs.items.filter((job) => ["queued", "running"].includes(job.state));
  return [
    head("From your pictures to an encoder", "Three steps. Pictures stay on this server."),
    h("ol", { class: "steps" },
      bring(own, encoders.items, signal), train(own, running, encoders.items), use(encoders.items, drawn?.items)),
    jobs.items.length > 0 && h("section", { class: "card", "aria-label": "Lately" }, h("h2", {}, "Lately"),
      h("ul", { class: "list" }, jobs.items.map((job) => h("li", {},
        h("a", { href: link(`/jobs/${job.id}`) }, job.encoder ?? job.generator ?? job.id), " ", badge(job.state), " ", h("span", { class: "note" }, when(job.created_at)))))),
  ].filter(Boolean);
}

function step(n, title, state, ...children) {
  return h("li", { class: `step ${state}`, "aria-current": state === "next" ? "step" : undefined },
    h("h2", {}, h("span", { class: "count", "aria-hidden": "true" }, state === "done" ? "✓" : n), title, state === "done" && h("span", { class: "hidden" }, " (done)")), ...children);
}

function bring(own, encoders, signal) {
  const known = own.slice(0, 3).map((dataset) => h("a", { class: "chip", href: link(`/datasets/${dataset.name}`) }, dataset.name));
  return step(1, "Bring pictures", own.length ? "done" : encoders.length ? "later" : "next",
    h("p", {}, own.length ? "Here already:" : "A zip of your own pictures; a few hundred are a start."),
    known.length > 0 && h("p", { class: "chips" }, ...known),
    uploader(signal));
}

function train(own, running, encoders) {
  const dataset = own[0]?.name;
  return step(2, "Train an encoder", encoders.length ? "done" : dataset ? "next" : "later",
    h("p", {}, "It learns to describe each picture by a few numbers that follow a law you choose. No labels needed; every setting has a default."), rising(),
    h("p", { class: "actions" },
      dataset && linkButton(`Train on ${dataset}`, link("/train", { dataset }), { class: "button primary" }),
      linkButton(dataset ? "On other pictures" : "Try it on handwritten digits", link("/train", { dataset: dataset ? "" : "digits" })),
      running[0] && linkButton("Watch the training", link(`/jobs/${running[0].id}`))));
}

function use(encoders, generators) {
  const [encoder] = encoders;
  return step(3, "Use it", encoder ? "next" : "later",
    h("p", {}, "See the map of your pictures, drop in a new one: where it belongs, how unusual it is, what is like it. Then draw new pictures."), cloud(),
    h("p", { class: "actions" },
      encoder ? linkButton(`Open ${encoder.name}`, link(`/encoders/${encoder.id}`), { class: "button primary" }) : h("span", { class: "note" }, "after the first training"),
      generators?.length ? linkButton(`Draw from ${generators[0].name}`, link(`/generators/${generators[0].id}`))
        : generators && encoder && linkButton("Train a generator", link("/generate", { source: versionOf(encoder) }))));
}

/** What a training looks like: information that rises to a capacity. */
function rising() {
  const curve = Array.from({ length: 41 }, (_, i) => `${i ? "L" : "M"}${i * 7.5} ${(100 - 78 * (1 - Math.exp(-i / 9))).toFixed(1)}`).join("");
  return s("svg", { viewBox: "0 0 300 110", "aria-hidden": "true" }, s("line", { class: "level d0", x1: 0, x2: 300, y1: 16, y2: 16 }), s("path", { class: "line l0", d: curve }));
}

/** What an encoder looks like: points that follow a law (a golden spiral through the normal quantiles). */
function cloud() {
  const dots = Array.from({ length: 90 }, (_, i) => {
    const radius = 22 * Math.sqrt(-2 * Math.log(1 - (i + 0.5) / 93));
    const angle = i * 2.39996;
    return s("circle", { class: "dots", cx: (150 + 1.9 * radius * Math.cos(angle)).toFixed(1), cy: (55 + 0.75 * radius * Math.sin(angle)).toFixed(1), r: 2.4 });
  });
  return s("svg", { viewBox: "0 0 300 110", "aria-hidden": "true" }, ...dots);
}
