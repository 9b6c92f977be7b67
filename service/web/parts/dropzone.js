// A place to drop files on, which is also a file input for keyboards and screen readers.

import { freshId, h } from "/static/lib/dom.js";

/** `take(files)` is called with what was dropped or chosen. */
export function dropzone({ label, hint, accept, multiple = false, take }) {
  const id = freshId("file");
  const input = h("input", { id, type: "file", accept, multiple, "aria-describedby": `${id}-hint`, onchange: () => {
    if (input.files.length) take([...input.files]);
    input.value = "";
  } });
  const zone = h("div", { class: "dropzone" },
    input,
    h("label", { for: id }, h("span", { class: "arrow", "aria-hidden": "true" }, "↥"), h("b", {}, label)),
    h("p", { id: `${id}-hint`, class: "note" }, hint));
  const over = (on) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", on);
  };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    const files = [...event.dataTransfer.files];
    if (files.length) take(multiple ? files : files.slice(0, 1));
  });
  return zone;
}
