// Are the images that are embedded now like those that the law was promised for?

import { get, has, post } from "/static/lib/api.js";
import { fill, h } from "/static/lib/dom.js";
import { count, number } from "/static/lib/numbers.js";
import { badge, figures, problem, worker } from "/static/parts/bits.js";

const KNOWN = ["statistic", "evidence", "n", "worst", "alarm"];

export function drift(encoder, signal) {
  const path = `/v1/encoders/${encoder.id}/drift`;
  const place = h("div", {}, h("p", { class: "note" }, "asking…"));
  const show = async () => {
    try {
      if (!(await has("/v1/encoders/{ref}/drift"))) {
        fill(place, h("p", { class: "note" }, "This server does not watch for drift."));
        return;
      }
      const found = await get(path, { signal });
      fill(place, told(found), worker("Start anew", async () => { await post(`${path}/reset`); await show(); }));
    } catch (error) {
      fill(place, error.status === 404 ? h("p", { class: "note" }, "This server does not watch for drift.") : problem(error));
    }
  };
  show();
  return place;
}

function told(found) {
  const value = (name) => (typeof found[name] === "number" ? number(found[name], 3) : "–");
  const worst = typeof found.worst === "object" && found.worst ? Object.entries(found.worst).map(([name, one]) => `${name} ${typeof one === "number" ? number(one, 2) : one}`).join(", ") : String(found.worst ?? "–");
  const others = Object.entries(found).filter(([name, one]) => !KNOWN.includes(name) && ["number", "string"].includes(typeof one));
  return h("div", {},
    h("p", {}, found.alarm ? h("span", { class: "badge failed" }, "✕ drift") : badge("ready"), found.alarm ? " The live embeddings do not follow the law." : " Nothing speaks against the law so far."),
    figures([["Embeddings seen", count(found.n)], ["Statistic", value("statistic")], ["Evidence", value("evidence")], ["Worst coordinate", worst],
      ...others.map(([name, one]) => [name.replaceAll("_", " "), typeof one === "number" ? number(one, 3) : one])]));
}
