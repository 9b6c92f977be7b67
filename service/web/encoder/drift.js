// Are the images that are embedded now like those that the law was promised for?

import { get, has, post } from "/static/lib/api.js";
import { fill, h } from "/static/lib/dom.js";
import { count, number } from "/static/lib/numbers.js";
import { figures, problem, table, when, worker } from "/static/parts/bits.js";

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
      fill(place, told(found), worker("Forget it and watch anew", async () => { await post(`${path}/reset`); await show(); }));
    } catch (error) {
      fill(place, error.status === 404 ? h("p", { class: "note" }, "This server does not watch for drift.") : problem(error));
    }
  };
  show();
  return place;
}

function told(found) {
  const { worst, evidence } = found;
  const groups = Object.entries(found.statistic ?? {}).map(([name, one]) =>
    [name, number(one.from_prior, 3), number(one.heldout, 3), number(one.beyond, 3), number(one.chance, 3)]);
  return h("div", {}, verdict(found), found.note && h("p", { class: "note" }, found.note),
    figures([
      ["Pictures seen", count(found.n), found.since ? h("span", {}, "since ", when(found.since)) : "embedded by anybody"],
      ["Evidence p", number(evidence?.p_value, 3), "valid at any time; small speaks against the law"],
      ["Worst coordinate", worst ? String(worst.coordinate + 1) : "–", worst && `${worst.statistic} ${number(worst.value)}, held out ${number(worst.heldout)}`],
    ]),
    found.n > 0 && groups.length > 0 && table("Drift by kind", ["", "From the law", "Held out", "Beyond what is tolerated", "By chance"], groups));
}

/** An alarm, none, or nothing that could raise one. */
function verdict({ alarm, n }) {
  if (alarm) return h("p", {}, h("span", { class: "badge failed" }, h("span", { "aria-hidden": "true" }, "✕"), " drift"), " The pictures that are embedded now are not like the held-out ones.");
  if (!n) return h("p", {}, "Nothing has been embedded since the watch began.");
  return h("p", {}, alarm === null ? "No alarm can be raised for this encoder." : "Nothing speaks for a drift so far.");
}
