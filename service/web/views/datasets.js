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
  let [split, offset] = [found.splits.test ? "test" : "train", 0];
  const show = async () => {
    sheet.setAttribute("aria-busy", "true");
    where.textContent = "reading pictures…";
    try {
      const size = Math.min(64, found.image.width, found.image.height);
      const shown = await picturesOf(found.name, { split, offset, limit: PAGE, size, channels: found.image.channels, labels: found.classes.length > 0 });
      if (signal.aborted) return;
      fill(sheet, Array.from({ length: shown.n }, (_, i) => picture(shown, i, found.classes[shown.labels[i]] ?? `picture ${offset + i + 1}`, { size: 64 })));
      where.textContent = `${offset + 1} to ${offset + shown.n} of ${count(found.splits[split])}`;
      previous.disabled = offset === 0;
      next.disabled = offset + shown.n >= found.splits[split];
    } catch (error) {
      fill(sheet, problem(error));
    }
    sheet.removeAttribute("aria-busy");
  };
  const move = (to) => { offset = Math.max(0, to); show(); };
  const previous = button("← Back", () => move(offset - PAGE));
  const next = button("More →", () => move(offset + PAGE));
  const select = h("select", { id: "split", onchange: () => { split = select.value; move(0); } },
    h("option", { value: "test" }, "held-out pictures"), h("option", { value: "train" }, "training pictures"));
  select.value = split;
  show();
  return h("section", { class: "card", "aria-label": "Pictures" },
    h("div", { class: "toolbar" }, h("label", { for: "split" }, "Show"), select, where, previous, next), sheet);
}

function removal(name) {
  const sure = worker("Delete for ever", async () => {
    await remove(`/v1/datasets/${name}`);
    go("/datasets");
  }, { class: "danger" });
  return h("details", { class: "removal" }, h("summary", {}, "Delete these pictures"), h("p", {}, "Encoders that were trained on them stay."), sure);
}
