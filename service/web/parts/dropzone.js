// A place to drop a file on, which is also a file input for keyboards and screen readers.

import { freshId, h } from "/static/lib/dom.js";

/** `take(file)` is called with what was dropped or chosen; a folder or several files are refused, with `instead` to do; any while `busy()` says why. */
export function dropzone({ label, hint, accept, instead, take, busy = () => null }) {
  const id = freshId("file");
  const refusal = h("p", { class: "fault", role: "alert" });
  const offer = (files, folder = false) => {
    const wait = busy();
    refusal.textContent = wait ? `✕ ${wait}` : folder ? `✕ A folder cannot be sent. ${instead}` : files.length > 1 ? `✕ One file at a time. ${instead}` : "";
    if (files.length === 1 && !folder && !wait) take(files[0]);
  };
  const input = h("input", { id, type: "file", accept, "aria-describedby": `${id}-hint`, onchange: () => {
    offer([...input.files]);
    input.value = "";
  } });
  const zone = h("div", { class: "dropzone" },
    input,
    h("label", { for: id }, h("span", { class: "arrow", "aria-hidden": "true" }, "↥"), h("b", {}, label)),
    h("p", { id: `${id}-hint`, class: "note" }, hint), refusal);
  const over = (on) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", on);
  };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    const { files, items } = event.dataTransfer;
    offer([...files], [...items].some((item) => item.webkitGetAsEntry?.()?.isDirectory));
  });
  return zone;
}
