// Encoders: every version with how well it came out.

import { get } from "/static/lib/api.js";
import { h } from "/static/lib/dom.js";
import { number, percent } from "/static/lib/numbers.js";
import { link } from "/static/lib/router.js";
import { badge, empty, head, linkButton, table, when } from "/static/parts/bits.js";

export async function encoders(_, query, signal) {
  const after = query.get("cursor");
  const { items, next_cursor: cursor } = await get(`/v1/encoders?limit=50${after ? `&cursor=${encodeURIComponent(after)}` : ""}`, { signal });
  const rows = items.map((encoder) => [
    h("a", { href: link(`/encoders/${encoder.id}`) }, `${encoder.name}@${encoder.version}`),
    badge(encoder.state), encoder.spec.dataset, encoder.dim, encoder.prior.kind.replaceAll("_", " "),
    number(encoder.report.kl_bound_upper95_nats), number(encoder.report.sw2_ratio, 1), percent(encoder.report.linear), when(encoder.created_at),
  ]);
  return [
    head("Encoders", "What trainings made. Open one for its map, and to try it.", linkButton("Train an encoder", link("/train"), { class: "button primary" })),
    rows.length
      ? table("Encoders", ["Name", "State", "Pictures", "d", "Law", "KL ≤, nats", "SW2 / floor", "Linear", "Made"], rows)
      : empty("No encoder yet.", linkButton("Train the first one", link("/train"), { class: "button primary" })),
    cursor && linkButton("Older ones", link("/encoders", { cursor })),
  ].filter(Boolean);
}
