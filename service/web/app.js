// The dashboard: which view belongs to which address, the key, the theme, the state of the server.

import { get, key } from "/static/lib/api.js";
import { h } from "/static/lib/dom.js";
import { route, start } from "/static/lib/router.js";
import { button, head, problem } from "/static/parts/bits.js";
import { compare } from "/static/views/compare.js";
import { dataset, datasets } from "/static/views/datasets.js";
import { encoder } from "/static/views/encoder.js";
import { encoders } from "/static/views/encoders.js";
import { generate } from "/static/views/generate.js";
import { generator, generators } from "/static/views/generators.js";
import { home } from "/static/views/home.js";
import { job } from "/static/views/job.js";
import { jobs } from "/static/views/jobs.js";
import { train } from "/static/views/train.js";

const THEME = "nidim-theme";

route("/", home);
route("/datasets", datasets);
route("/datasets/:name", dataset);
route("/train", train);
route("/generate", generate);
route("/jobs", jobs);
route("/jobs/:id", job);
route("/compare", compare);
route("/encoders", encoders);
route("/encoders/:ref", encoder);
route("/generators", generators);
route("/generators/:ref", generator);

const show = start(document.getElementById("main"), {
  onShow(path) {
    state();
    for (const item of document.querySelectorAll("nav a")) {
      const here = item.getAttribute("href").slice(1);
      const current = here === "/" ? path === "/" : path.startsWith(here);
      if (current) item.setAttribute("aria-current", "page");
      else item.removeAttribute("aria-current");
    }
  },
  onError: (error) => h("div", {}, h("h1", {}, error.status === 404 ? "Not here" : "This did not work"), problem(error),
    h("p", { class: "actions" }, error.status === 404 ? h("a", { href: "#/" }, "Go to the start") : button("Try again", () => show()))),
  otherwise: (path) => [
    head("Not here", `The dashboard has no page ${path}.`),
    h("p", {}, h("a", { href: "#/" }, "Go to the start")),
  ],
});

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault()); // a file beside its zone
keys();
theme();

/** Ask for a key once the server wants one; it is kept for this tab only. */
function keys() {
  const dialog = document.getElementById("key");
  const input = document.getElementById("key-input");
  const why = document.getElementById("key-why");
  const opener = document.getElementById("key-open");
  const ask = (text) => {
    why.textContent = text;
    if (!dialog.open) dialog.showModal();
    input.focus();
  };
  const mark = () => { opener.textContent = key.get() ? "Change key" : "Key"; };
  window.addEventListener("key-needed", ({ detail }) => ask(key.get() ? detail.message : "This server asks for an API key."));
  opener.addEventListener("click", () => ask(key.get() ? "A key is set for this tab." : "Only a server that has keys needs one."));
  document.getElementById("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value.trim()) key.set(input.value.trim());
    else key.forget();
    input.value = "";
    dialog.close();
    mark();
    if (window.dispatchEvent(new CustomEvent("key-given", { cancelable: true }))) show(); // unless the view keeps what was typed
  });
  document.getElementById("key-cancel").addEventListener("click", () => dialog.close());
  mark();
}

/** Light or dark as the system has it, until somebody chooses. */
function theme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const mark = () => button.setAttribute("aria-pressed", String(dark()));
  const kept = localStorage.getItem(THEME);
  if (kept) document.documentElement.dataset.theme = kept;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    localStorage.setItem(THEME, document.documentElement.dataset.theme);
    mark();
  });
  system.addEventListener("change", mark);
  mark();
}

/** At the foot of the page, anew with each view. */
async function state() {
  const line = document.getElementById("server-state");
  const text = await inWords();
  if (line.textContent !== text) line.textContent = text; // what is the same is not announced again
}

async function inWords() {
  try {
    const [health, ready] = await Promise.all([get("/healthz"), get("/readyz")]);
    const degraded = ready.degraded.length ? `; degraded: ${ready.degraded.join(", ")}` : "";
    return `version ${health.version}, ${ready.status}${degraded}`;
  } catch (error) {
    return `not ready: ${error.message}`;
  }
}
