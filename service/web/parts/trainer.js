// The form of a training: a few choices, every other setting below them, and beside it what this will be, while one types.

import { post } from "/static/lib/api.js";
import { announce, debounced, fill, h } from "/static/lib/dom.js";
import { bytes, count, counted } from "/static/lib/numbers.js";
import { go } from "/static/lib/router.js";
import { button, figures, problem, warning } from "/static/parts/bits.js";
import { chosen } from "/static/parts/chosen.js";
import { blame, field, labelled } from "/static/parts/form.js";

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;
const IDS = /^(enc|gen|job)_/;
const BESIDE = "A setting cannot be used; it says why beside it.";
const FIXED = ["kind", "format_version", "dataset", "source", "devices"];

/**
 * { node, check(), set(job), suggest(name) } for specs of `schema`.
 *
 * `subject` is a control for what to learn from and `given()` its part of the spec; `makes` is "encoder" or "generator";
 * `rows` names the fields that are shown first, those of a row together; `told(found)` gives figures of what a check found;
 * `small`, if any, are { settings(), words } of a training for a first look.
 */
export function trainer({ schema, components, subject, given, makes, rows, told, small, signal }) {
  const checkSoon = debounced(() => check());
  const changed = () => {
    fill(outcome); // what was refused is no longer what is there
    checkSoon();
  };
  let named = false;
  const name = h("input", { type: "text", required: true, maxlength: 63, pattern: "[a-z0-9][a-z0-9._\\-]*", autocomplete: "off", spellcheck: "false", oninput: () => { named = true; changed(); } });
  const shown = Object.entries(schema.properties).filter(([key]) => !FIXED.includes(key));
  const fields = Object.fromEntries(shown.map(([key, part]) => [key, field(key, part, { components, pointer: "/spec", onChange: changed })]));
  const rest = Object.keys(fields).filter((key) => !rows.flat().includes(key));
  const nodes = (keys) => keys.map((key) => fields[key].node);
  const outcome = h("div", { class: "outcome" });
  const submit = h("button", { type: "submit", form: "training", class: "primary" }, "Start training");
  const setSmall = async () => {
    for (const [key, value] of Object.entries(small.settings())) fields[key].set(value);
    await check();
    announce("The settings of a small training are set.");
  };
  const form = h("form", { id: "training", class: "train", novalidate: true, onsubmit: (event) => { event.preventDefault(); start(); } },
    h("div", { class: "row" }, subject, labelled(`name of the ${makes}`, name, "small letters, digits, dots and dashes; an existing name gets a new version", `/${makes}`)),
    rows.map((keys) => (keys.length > 1 ? h("div", { class: "row" }, nodes(keys)) : fields[keys[0]].node)),
    h("details", {}, h("summary", {}, "All settings"), h("div", { class: "settings" }, nodes(rest))));
  const aside = h("aside", { class: "card", "aria-label": "What this will be", "aria-live": "polite" });
  const spec = () => ({
    ...given(),
    ...Object.fromEntries(Object.entries(fields).map(([key, one]) => [key, one.value()]).filter(([, value]) => value !== undefined)),
  });

  async function check() {
    try {
      const found = await post("/v1/jobs/check", { spec: spec() }, { signal });
      blame(form, nameFaults());
      for (const [key, one] of Object.entries(fields)) one.filled(found.spec[key]);
      fill(aside, h("h2", {}, "What this will be"), figures(sizes(found, told(found)).filter(Boolean)), advice(found));
    } catch (error) {
      if (error.name === "AbortError") return;
      const errors = error.errors ?? [];
      const left = blame(form, [...errors, ...nameFaults()]);
      const words = left.length ? null : errors.length ? BESIDE : error.message;
      fill(aside, h("h2", {}, "Not yet"), words ? h("p", { class: "note" }, words) : h("ul", {}, left.map(({ detail }) => h("li", {}, detail))));
    }
  }

  /** What a check of the spec does not tell: why the name cannot be used. */
  function nameFaults() {
    const wanted = name.value.trim();
    const fault = !wanted ? `The ${makes} needs a name.`
      : !NAME.test(wanted) ? "Use small letters, digits, dots, dashes and underscores; the first is a letter or a digit."
        : IDS.test(wanted) && "Names that begin with enc_, gen_ or job_ are kept for ids.";
    return fault ? [{ pointer: `/${makes}`, detail: fault }] : [];
  }

  async function start() {
    if (submit.hasAttribute("aria-disabled")) return;
    submit.setAttribute("aria-disabled", "true"); // disabled, it would lose the focus
    try {
      const headers = { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) };
      const job = await post("/v1/jobs", { spec: spec(), [makes]: name.value.trim() }, { headers });
      announce("The training is submitted.");
      go(`/jobs/${job.id}`);
    } catch (error) {
      const errors = error.errors ?? [];
      const left = blame(form, [...errors, ...nameFaults()]);
      fill(outcome, left.length || !errors.length ? problem(error, left) : h("p", { class: "fault", role: "alert" }, `✕ ${BESIDE}`));
      form.querySelector("[aria-invalid]")?.focus();
    }
    submit.removeAttribute("aria-disabled");
  }

  window.addEventListener("key-given", (event) => {
    event.preventDefault();
    check();
  }, { signal });
  return {
    node: h("div", { class: "split" }, form, aside, h("div", { class: "start" }, outcome,
      h("p", { class: "actions" }, submit, small && button("Set a small training", setSmall, { "aria-describedby": "small" })),
      small && h("p", { class: "note", id: "small" }, small.words))),
    check() {
      fill(outcome);
      return check();
    },
    suggest(text) { if (!named) name.value = text; },
    async set(job) {
      named = true;
      name.value = job[makes];
      const spec = await chosen(job.spec, [...rest, ...rows.flat()], signal);
      for (const [key, one] of Object.entries(fields)) one.set(spec[key]);
    },
  };
}

function sizes({ spec, resolved, memory_bytes: memory }, others) {
  return [
    ["Pictures", count(resolved.n_train), `${count(resolved.n_heldout)} held out`],
    ["Steps", count(resolved.steps_per_epoch * spec.epochs), `${counted(spec.epochs, "pass", "passes")}, ${counted(resolved.batch_size, "picture")} a step`],
    ...others,
    memory && ["Memory", `about ${bytes(memory)}`],
  ];
}

function advice({ warnings, spec }) {
  if (warnings.length) return h("ul", { class: "warnings" }, warnings.map(warning));
  return spec.kind === "train" && h("p", { class: "fine" }, h("span", { "aria-hidden": "true" }, "✓ "), "The physics has no objection.");
}
