// Trainings: the list, with a choice of some to compare.

import { get } from "/static/lib/api.js";
import { h } from "/static/lib/dom.js";
import { number } from "/static/lib/numbers.js";
import { go, link } from "/static/lib/router.js";
import { badge, button, empty, head, linkButton, table, when } from "/static/parts/bits.js";
import { LINES } from "/static/parts/curve.js";
import { ONE_KIND } from "/static/views/compare.js";

const STATES = ["", "queued", "running", "succeeded", "failed", "cancelled"];

export async function jobs(_, query, signal) {
  const state = query.get("state") ?? "";
  const after = query.get("cursor");
  const asked = new URLSearchParams({ limit: 50, ...(state ? { state } : {}), ...(after ? { cursor: after } : {}) });
  const { items, next_cursor: cursor } = await get(`/v1/jobs?${asked}`, { signal });
  const chosen = new Set();
  const boxes = [];
  const compare = button("Compare", () => go("/compare", { ids: [...chosen].join(",") }), { disabled: true });
  const pick = ({ id, kind }, name) => {
    const box = h("input", { type: "checkbox", "aria-label": `compare ${name}`, onchange: () => {
      if (box.checked) chosen.add(id);
      else chosen.delete(id);
      compare.disabled = chosen.size < 2 || chosen.size > LINES;
      for (const [other, its] of boxes) {
        other.disabled = chosen.size > 0 && its !== kind;
        other.title = other.disabled ? ONE_KIND : "";
      }
    } });
    boxes.push([box, kind]);
    return box;
  };
  const select = h("select", { id: "state", onchange: () => go("/jobs", select.value ? { state: select.value } : {}) },
    STATES.map((value) => h("option", { value }, value || "all")));
  select.value = state;
  const rows = items.map((job) => {
    const name = job.encoder ?? job.generator ?? job.id;
    return [pick(job, name), h("a", { href: link(`/jobs/${job.id}`) }, name), badge(job.state), job.kind === "train" ? "encoder" : job.kind,
      job.spec.dataset ?? job.spec.source ?? "–", number(job.metrics.mi_nats), when(job.created_at)];
  });
  return [
    head("Trainings", "Every training, newest first.", linkButton("Train an encoder", link("/train"), { class: "button primary" })),
    h("div", { class: "toolbar" }, h("label", { for: "state" }, "State"), select, compare, h("span", { class: "note" }, `tick 2 to ${LINES} to compare`)),
    rows.length ? table("Trainings", ["Compare", "Name", "State", "Of", "From", "Î, nats", "When"], rows) : empty("No training here.", linkButton("Train an encoder", link("/train"))),
    cursor && linkButton("Older ones", link("/jobs", { ...(state ? { state } : {}), cursor })),
  ].filter(Boolean);
}
