// Are the images that are embedded now like those that the law was promised for?

import { get, has, post } from "/static/lib/api.js";
import { announce, fill, h } from "/static/lib/dom.js";
import { count, number, probability } from "/static/lib/numbers.js";
import { figures, problem, table, when, worker } from "/static/parts/bits.js";

const NOT_WATCHED = "This server does not watch for drift.";

/** { node, flag }: what is known, with buttons to look again and to forget it; `flag` holds an alarm for the head of the page. */
export function drift(encoder, signal) {
  const path = `/v1/encoders/${encoder.id}/drift`;
  const [node, flag, outcome] = [h("div", {}, h("p", { class: "note" }, "asking…")), h("div"), h("div")];
  const show = async () => {
    const found = await get(path, { signal });
    fill(outcome, told(found));
    fill(flag, found.alarm && h("p", { class: "problem", role: "alert" }, "✕ Drift: pictures were embedded that are not like the held-out ones; see below."));
    return found;
  };
  const again = worker("Look again", async () => announce(inWords(await show())));
  const forget = worker("Forget it and watch anew", async () => {
    await post(`${path}/reset`);
    await show();
    announce("The watch for drift begins anew.");
  });
  const begin = async () => {
    try {
      const { enabled, n } = (await has("/v1/encoders/{ref}/drift")) ? await show() : {};
      if (enabled || n) fill(node, outcome, h("p", { class: "actions" }, again, forget));
      else fill(node, h("p", { class: "note" }, NOT_WATCHED));
    } catch (error) {
      if (error.name !== "AbortError") fill(node, problem(error));
    }
  };
  begin();
  return { node, flag };
}

function told(found) {
  const { n, unit, since, worst, evidence, statistic } = found;
  const groups = Object.entries(statistic).map(([name, one]) =>
    [name, number(one.from_prior, 3), number(one.heldout, 3), number(one.beyond, 3), number(one.chance, 3)]);
  return h("div", { class: "drift" }, verdict(found), found.note && h("p", { class: "note" }, found.note),
    figures([
      [unit === "request" ? "Requests seen" : "Pictures seen", count(n), since ? h("span", {}, "since ", when(since)) : "by anybody; those of this page do not count"],
      ["Evidence p", probability(evidence.p_value), "valid at any time; small speaks against the law"],
      worst && ["Worst coordinate", String(worst.coordinate + 1), `${worst.statistic} ${number(worst.value)}, held out ${number(worst.heldout)}`],
    ].filter(Boolean)),
    n > 0 && table("Drift by kind", ["Kind", "From the law", "Held out", "Beyond what is tolerated", "By chance"], groups));
}

/** An alarm, none, or nothing that could raise one. */
function verdict(found) {
  if (!found.alarm) return h("p", {}, inWords(found));
  return h("p", {}, h("span", { class: "badge failed" }, h("span", { "aria-hidden": "true" }, "✕"), " drift"), ` ${inWords(found)} `, h("span", { class: "note" }, "found ", when(found.alarm_at)));
}

function inWords({ alarm, n, enabled }) {
  const words = alarm ? "Pictures were embedded that are not like the held-out ones. The alarm stays until the watch begins anew."
    : !n ? "Nothing has been embedded since the watch began."
      : alarm === null ? "No alarm can be raised for this encoder." : "Nothing speaks for a drift so far.";
  return enabled ? words : `${words} ${NOT_WATCHED}`;
}
