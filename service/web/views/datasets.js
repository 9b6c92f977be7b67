// Pictures: what is here, uploads, one set with its thumbnails.

import { all, get, remove } from "/static/lib/api.js";
import { fill, h } from "/static/lib/dom.js";
import { count, counted } from "/static/lib/numbers.js";
import { picture, picturesOf } from "/static/lib/pictures.js";
import { go, link } from "/static/lib/router.js";
import { badge, button, card, figures, head, linkButton, problem, table, worker } from "/static/parts/bits.js";
import { uploader } from "/static/parts/upload.js";

const PAGE = 60;
const NAMED = 6;
const NOT_SHOWN = { ready: "The files of these pictures are not on this server.", ingesting: "The server still reads them; come back in a moment." };

export async function datasets(_, __, signal) {
  const found = await all("/v1/datasets");
  const rows = found.map((dataset) => [
    h("a", { href: link(`/datasets/${dataset.name}`) }, dataset.name),
    dataset.available || dataset.state !== "ready" ? badge(dataset.state) : h("span", { class: "badge" }, "– files not here"),
    count(dataset.items), dataset.classes.length || "–", sizeOf(dataset), dataset.license ?? "–",
  ]);
  return [
    head("Pictures", "Sets to train on: your own and built-in ones."),
    card("Upload", uploader(signal)),
    table("Sets of pictures", ["Name", "State", "Pictures", "Classes", "Size", "Licence"], rows),
  ];
}

const sizeOf = ({ image }) => (image ? `${image.width} × ${image.height}, ${image.channels === 1 ? "gray" : "colour"}` : "–");

export async function dataset({ name }, _, signal) {
  const found = await get(`/v1/datasets/${name}`, { signal });
  const usable = found.available && found.state === "ready";
  return [
    head(name, found.kind === "builtin" ? "Built in." : "Your upload.",
      usable && linkButton("Train an encoder on these", link("/train", { dataset: name }), { class: "button primary" })),
    figures([
      ["Pictures", count(found.items)],
      ["To train on", count(found.splits?.train)],
      ["Held out", count(found.splits?.test), "to judge by"],
      ["Classes", found.classes.length ? count(found.classes.length) : "none", firstOf(found.classes)],
      ["Size", sizeOf(found)],
      ["Licence", found.license ?? "–"],
    ]),
    found.error && h("p", { class: "problem", role: "alert" }, `✕ ${found.error.message}`),
    usable ? gallery(found, signal) : NOT_SHOWN[found.state] && h("p", { class: "note" }, NOT_SHOWN[found.state]),
    found.skipped?.count > 0 && card(`${counted(found.skipped.count, "file was", "files were")} left out`,
      table("Files left out", ["File", "Why"], found.skipped.first.map(({ member, reason }) => [member, reason]))),
    found.kind === "uploaded" && removal(name),
  ].filter(Boolean);
}

const firstOf = (classes) => [...classes.slice(0, NAMED), ...(classes.length > NAMED ? ["…"] : [])].join(", ");

function gallery(found, signal) {
  const sheet = h("div", { class: "sheet" });
  const where = h("p", { class: "note", "aria-live": "polite" });
  const splits = [["test", "held-out pictures"], ["train", "training pictures"]].filter(([of]) => found.splits[of]);
  let [split, offset] = [splits[0][0], 0];
  const show = async () => {
    const [of, from, total] = [split, offset, found.splits[split]];
    const passed = () => signal.aborted || of !== split || from !== offset; // others are on their way
    sheet.setAttribute("aria-busy", "true");
    where.textContent = "reading pictures…";
    shut(previous, from === 0);
    shut(next, from + PAGE >= total);
    try {
      const size = Math.min(64, found.image.width, found.image.height);
      const shown = await picturesOf(found.name, { split: of, offset: from, limit: PAGE, size, channels: found.image.channels, labels: found.classes.length > 0 });
      if (passed()) return;
      fill(sheet, Array.from({ length: shown.n }, (_, i) => picture(shown, i, found.classes[shown.labels[i]] ?? `picture ${from + i + 1}`, { size: 64 })));
      where.textContent = `${from + 1} to ${from + shown.n} of ${count(total)}`;
    } catch (error) {
      if (passed()) return;
      fill(sheet, problem(error));
      where.textContent = "";
    }
    sheet.removeAttribute("aria-busy");
  };
  const move = (to) => { offset = to; show(); };
  const turn = (by) => ({ currentTarget }) => { if (!currentTarget.hasAttribute("aria-disabled")) move(offset + by); };
  const [previous, next] = [button("← Back", turn(-PAGE)), button("More →", turn(PAGE))];
  const select = h("select", { id: "split", onchange: () => { split = select.value; move(0); } },
    splits.map(([of, label]) => h("option", { value: of }, label)));
  show();
  return h("section", { class: "card", "aria-label": "Pictures" },
    h("div", { class: "toolbar" }, h("label", { for: "split" }, "Show"), select, where, previous, next), sheet);
}

/** Shut, a button keeps the focus, which it would lose disabled. */
const shut = (node, ended) => (ended ? node.setAttribute("aria-disabled", "true") : node.removeAttribute("aria-disabled"));

function removal(name) {
  const sure = worker("Delete for ever", async () => {
    await remove(`/v1/datasets/${name}`);
    go("/datasets");
  }, { class: "danger" });
  return h("details", { class: "removal" }, h("summary", {}, "Delete these pictures"), h("p", {}, "Encoders that were trained on them stay."), sure);
}
