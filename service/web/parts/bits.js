// Small pieces that many views share.

import { Problem } from "/static/lib/api.js";
import { h } from "/static/lib/dom.js";
import { ago } from "/static/lib/numbers.js";

const SIGNS = { queued: "○", running: "◐", succeeded: "✓", ready: "✓", failed: "✕", cancelled: "–", ingesting: "◐", degraded: "!" };

/** A state as a word with a sign, so that colour says nothing alone. */
export function badge(state) {
  return h("span", { class: `badge ${state}` }, h("span", { "aria-hidden": "true" }, SIGNS[state] ?? "·"), ` ${state}`);
}

/** The heading of a view: what it is, a line below, and what can be done. */
export function head(title, lead, ...actions) {
  return h("header", { class: "head" },
    h("div", {}, h("h1", {}, title), lead && h("p", { class: "lead" }, lead)),
    actions.length > 0 && h("div", { class: "actions" }, ...actions));
}

export function card(title, ...children) {
  return h("section", { class: "card", "aria-label": title }, h("h2", {}, title), ...children);
}

export function button(label, onclick, props = {}) {
  return h("button", { type: "button", onclick, ...props }, label);
}

export function linkButton(label, href, props = {}) {
  return h("a", { class: "button", href, ...props }, label);
}

/** Names with values, for figures: [[term, value, note?], ...]. */
export function figures(rows) {
  return h("dl", { class: "figures" }, rows.map(([term, value, note]) =>
    h("div", {}, h("dt", {}, term), h("dd", {}, value), note && h("dd", { class: "note" }, note))));
}

/** A table with a head, which scrolls where it is too wide; `caption` is for those who hear it. */
export function table(caption, columns, rows) {
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `${caption}, table` },
    h("table", {}, h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)))))));
}

export function when(time) {
  return h("time", { datetime: time, title: new Date(time).toLocaleString() }, ago(time));
}

export function empty(text, ...actions) {
  return h("div", { class: "empty" }, h("p", {}, text), h("div", { class: "actions" }, ...actions));
}

/** Advice with a sign. */
export function warning({ code, detail }) {
  return h("li", { class: "warning" }, h("span", { "aria-hidden": "true" }, "▲ "), h("b", {}, (code ?? "note").replaceAll("_", " ")), ` ${detail}`);
}

/** A refusal: what went wrong, in detail where `errors` has it, and the request to ask an operator about. */
export function problem(error, errors = error.errors ?? []) {
  if (!(error instanceof Problem)) console.error(error);
  const reasons = errors.length ? errors.map(({ detail }) => detail) : [error.message];
  return h("div", { class: "problem", role: "alert" },
    reasons.map((reason) => h("p", {}, h("span", { "aria-hidden": "true" }, "✕ "), reason)),
    error.requestId && h("p", { class: "note" }, `request ${error.requestId}`));
}

/** A button that works: presses meanwhile do nothing, the focus stays on it, a refusal stands beside it. */
export function worker(label, work, props = {}) {
  const place = h("span", { class: "outcome" });
  const node = button(label, async () => {
    if (node.hasAttribute("aria-disabled")) return;
    node.setAttribute("aria-disabled", "true");
    place.replaceChildren();
    try {
      await work();
    } catch (error) {
      place.replaceChildren(problem(error));
    }
    node.removeAttribute("aria-disabled");
  }, props);
  return h("span", { class: "worker" }, node, place);
}
