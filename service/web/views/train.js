// A training from a form: a few choices, every other setting below them, and what the physics says while one types.

import { all, get, openapi, post } from "/static/lib/api.js";
import { announce, debounced, fill, h } from "/static/lib/dom.js";
import { bytes, count, number } from "/static/lib/numbers.js";
import { go } from "/static/lib/router.js";
import { head, problem, warning, figures } from "/static/parts/bits.js";
import { blame, field, labelled } from "/static/parts/form.js";

const FIRST = ["encoder", "prior", "epochs", "evaluation"];
const FIXED = ["kind", "format_version", "dataset", "devices"];

export async function train(_, query, signal) {
  const [datasets, document_, prefilled] = await Promise.all([all("/v1/datasets"), openapi(), startingPoint(query.get("from"))]);
  const components = document_.components.schemas;
  const changed = debounced(() => check());
  const tools = { components, pointer: "/spec", onChange: changed };
  const pictures = h("select", { required: true, onchange: () => { suggest(); check(); } },
    datasets.filter((dataset) => dataset.available && dataset.state === "ready").map((dataset) => h("option", { value: dataset.name }, `${dataset.name} (${count(dataset.items)})`)));
  const wanted = prefilled?.spec.dataset ?? query.get("dataset");
  if ([...pictures.options].some((option) => option.value === wanted)) pictures.value = wanted;
  const name = h("input", { type: "text", required: true, maxlength: 63, pattern: "[a-z0-9][a-z0-9._\\-]*", autocomplete: "off", spellcheck: "false", oninput: () => { named = true; } });
  let named = false;
  const suggest = () => { if (!named) name.value = `${pictures.value.slice(0, 55)}-encoder`; };
  suggest();
  const properties = Object.entries(components.TrainSpec.properties).filter(([key]) => !FIXED.includes(key));
  const fields = Object.fromEntries(properties.map(([key, schema]) => [key, field(key, schema, tools)]));
  const rest = properties.map(([key]) => key).filter((key) => !FIRST.includes(key));
  const outcome = h("div", { class: "outcome" });
  const submit = h("button", { type: "submit", form: "training", class: "primary" }, "Start training");
  const form = h("form", { id: "training", class: "train", novalidate: true, onsubmit: (event) => { event.preventDefault(); start(); } },
    h("div", { class: "row" },
      labelled("dataset", pictures, "what to learn from", "/spec/dataset"),
      labelled("name of the encoder", name, "small letters, digits, dots and dashes; an existing name gets a new version", "/encoder")),
    fields.encoder.node, fields.prior.node,
    h("div", { class: "row" }, fields.epochs.node, fields.evaluation.node),
    h("details", {}, h("summary", {}, "All settings"), h("div", { class: "settings" }, rest.map((key) => fields[key].node))));
  const aside = h("aside", { class: "card", "aria-label": "What this will be", "aria-live": "polite" });
  const spec = () => ({
    dataset: pictures.value,
    ...Object.fromEntries(Object.entries(fields).map(([key, one]) => [key, one.value()]).filter(([, value]) => value !== undefined)),
  });

  async function check() {
    try {
      const found = await post("/v1/jobs/check", { spec: spec() }, { signal });
      blame(form, []);
      for (const [key, one] of Object.entries(fields)) one.filled(found.spec[key]);
      fill(aside, ...summary(found));
    } catch (error) {
      if (error.name === "AbortError") return;
      const left = blame(form, error.errors ?? []);
      fill(aside, h("h2", {}, "Not yet"), h("p", { class: "note" }, left.length || !error.errors?.length ? error.message : "A setting cannot be used; it says why beside it."),
        h("ul", {}, left.map(({ detail }) => h("li", {}, detail))));
    }
  }

  async function start() {
    submit.disabled = true;
    try {
      const headers = { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) };
      const job = await post("/v1/jobs", { spec: spec(), encoder: name.value.trim() }, { headers });
      announce("The training is submitted.");
      go(`/jobs/${job.id}`);
    } catch (error) {
      const left = blame(form, error.errors ?? []);
      fill(outcome, left.length || !error.errors?.length ? problem(error) : h("p", { class: "fault", role: "alert" }, "✕ A setting cannot be used; it says why beside it."));
      form.querySelector("[aria-invalid]")?.focus();
    }
    submit.disabled = false;
  }

  if (prefilled) {
    named = true;
    name.value = prefilled.encoder;
    for (const [key, one] of Object.entries(fields)) one.set(prefilled.spec[key]);
  }
  await check();
  return [head("Train an encoder", "Leave what you do not know: every empty field shows the default that it will get."), h("div", { class: "split" }, form, aside, h("div", { class: "start" }, outcome, submit))];
}

/** The job whose settings are the start of a new one. */
const startingPoint = (id) => (id ? get(`/v1/jobs/${id}`) : null);

function summary({ spec, resolved, warnings, memory_bytes }) {
  return [
    h("h2", {}, "What this will be"),
    figures([
      ["Pictures", count(resolved.n_train), `${count(resolved.n_heldout)} held out`],
      ["Steps", count(resolved.steps_per_epoch * spec.epochs), `${count(spec.epochs)} passes, ${count(resolved.batch_size)} pictures a step`],
      ["Each picture becomes", `${resolved.dim} numbers`, `from ${resolved.image_size} × ${resolved.image_size} pixels`],
      resolved.capacity_nats && ["Capacity C", `${number(resolved.capacity_nats)} nats`, resolved.sigma ? `noise σ ${number(resolved.sigma, 3)}` : `noise ε ${number(resolved.epsilon, 3)}`],
      ["Memory", `about ${bytes(memory_bytes)}`],
    ].filter(Boolean)),
    warnings.length ? h("ul", { class: "warnings" }, warnings.map(warning)) : h("p", { class: "fine" }, h("span", { "aria-hidden": "true" }, "✓ "), "The physics has no objection."),
  ];
}
