// Pictures of one's own: drop an archive, see it go and be read, land on its page.

import { Problem, all, get, upload } from "/static/lib/api.js";
import { announce, fill, h } from "/static/lib/dom.js";
import { bytes, count } from "/static/lib/numbers.js";
import { go } from "/static/lib/router.js";
import { problem } from "/static/parts/bits.js";
import { dropzone } from "/static/parts/dropzone.js";

const KINDS = ".zip,.tar,.gz,.tgz,.npz,.npy,.parquet";
const LOOK_MS = 400;

export function uploader(signal) {
  const name = h("input", { id: "upload-name", type: "text", maxlength: 63, autocomplete: "off", spellcheck: "false" });
  const license = h("input", { id: "upload-license", type: "text", maxlength: 200, autocomplete: "off" });
  const outcome = h("div", { class: "outcome" });
  let sent = null;
  const zone = dropzone({
    label: "Drop a zip of pictures, or choose one",
    hint: "PNG, JPEG, WebP, GIF, BMP or TIFF; folders become classes. Also tar, npz, npy, parquet.",
    accept: KINDS,
    instead: "Put the pictures into one zip.",
    busy: () => sent && `${sent} is still on its way; wait until it is read.`,
    take: async (file) => {
      sent = file.name;
      await send(file, { name, license, outcome, signal }).finally(() => { sent = null; });
    },
  });
  return h("div", { class: "uploader" }, zone, outcome,
    h("details", {}, h("summary", {}, "Name and licence"),
      h("div", { class: "row" },
        h("div", { class: "field" }, h("label", { for: "upload-name" }, "Name"), name, h("p", { class: "note" }, "default: that of the file")),
        h("div", { class: "field" }, h("label", { for: "upload-license" }, "Licence"), license, h("p", { class: "note" }, "kept with every encoder of these pictures")))));
}

async function send(file, { name, license, outcome, signal }) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": `upload of ${file.name}` });
  const line = h("p", { class: "note" }, `sending ${file.name}`);
  fill(outcome, bar, line);
  announce(`Sending ${file.name}.`);
  try {
    const chosen = name.value.trim() || (await freeName(nameOf(file.name)));
    const form = new FormData();
    form.set("name", chosen);
    if (license.value.trim()) form.set("license", license.value.trim());
    form.set("file", file);
    const progress = (share, sent) => {
      bar.value = share;
      line.textContent = share < 1 ? `sending ${file.name}: ${bytes(sent)} of ${bytes(file.size)}; stay on this page until it is sent` : "reading the pictures…";
    };
    window.addEventListener("beforeunload", stay);
    await upload("/v1/datasets", form, { onProgress: progress, headers: { Prefer: "respond-async" }, signal })
      .finally(() => window.removeEventListener("beforeunload", stay));
    await untilRead(chosen, bar, line, signal);
    announce(`${chosen} is ready`);
    if (!signal.aborted) go(`/datasets/${chosen}`);
  } catch (error) {
    if (error.name !== "AbortError") fill(outcome, problem(error));
  }
}

/** The browser asks before it leaves the page. */
const stay = (event) => event.preventDefault();

/** Follow the reading of an upload. Raises Problem when it fails. */
async function untilRead(name, bar, line, signal) {
  announce("The server reads the pictures.");
  while (!signal.aborted) {
    const dataset = await get(`/v1/datasets/${name}`, { signal }).catch(unreachable);
    if (dataset.state === "ready") return;
    if (dataset.state === "failed") throw new Problem(422, { code: dataset.error?.code, detail: dataset.error?.message });
    const { done, total } = dataset.progress ?? {};
    if (done && total) bar.value = done / total;
    else bar.removeAttribute("value");
    line.textContent = dataset.away ?? (done ? `reading the pictures: ${count(done)}${total ? ` of ${count(total)}` : ""}` : "reading the pictures…");
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** A server that cannot be asked may read on all the same: what is said until it can. */
function unreachable(error) {
  if (error.status !== 0) throw error;
  return { away: `${error.message} The page looks again.` };
}

/** A name that the API takes, from that of a file. */
export function nameOf(file) {
  const stem = file.toLowerCase().replace(/\.(zip|tar|tar\.gz|tgz|npz|npy|parquet)$/, "");
  const name = stem.replace(/[^a-z0-9._-]+/g, "-").replace(/^[._-]+/, "").replace(/^(enc|gen|job)_/, "$1-").slice(0, 60);
  return name.replace(/[._-]+$/, "") || "pictures";
}

async function freeName(stem) {
  const taken = new Set((await all("/v1/datasets")).map(({ name }) => name));
  for (let i = 1; ; i += 1) {
    const name = i === 1 ? stem : `${stem}-${i}`;
    if (!taken.has(name)) return name;
  }
}
