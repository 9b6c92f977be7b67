// Fields from a JSON schema: numbers with bounds, choices, kinds with fields of their own. What is left empty keeps its
// default, which the server has filled in and which stands in the empty field.

import { fill, freshId, h } from "/static/lib/dom.js";

const LABELS = {
  encoder: "Network", prior: "Law of the embeddings", epochs: "Passes over the pictures", image_size: "Image size",
  batch_size: "Batch size", "/spec/encoder/dim": "Dimensions d", dim: "Output size", width: "Width", kind: "Kind", sigma: "σ of the noise", epsilon: "ε of the noise",
  lr: "Learning rate", evaluation: "Evaluation", normalization: "Normalisation", regularizer: "Regulariser", optimizer: "Optimiser",
  source: "Encoder", model: "Network that draws", condition_noise: "σ of the noise", dataset: "Pictures",
};

export function labelOf(name, pointer) {
  const words = name.replaceAll("_", " ");
  return LABELS[pointer] ?? LABELS[name] ?? words[0].toUpperCase() + words.slice(1);
}

/**
 * A field: { node, value(), filled(value), set(value) }. `value()` is undefined where nothing was given; then that of
 * `filled` is the default and shown as such, else it is what was given.
 */
export function field(name, schema, { components, pointer, onChange }) {
  const resolved = resolve(schema, components);
  const tools = { components, pointer: `${pointer}/${name}`, onChange };
  if (resolved.discriminator) return union(name, resolved, schema, tools);
  if (resolved.enum) return choice(name, resolved.enum, schema, tools);
  if (resolved.type === "boolean") return choice(name, [true, false], schema, tools);
  if (["integer", "number"].includes(resolved.type)) return numeric(name, resolved, schema, tools);
  if (resolved.anyOf) return numeric(name, { type: "mixed", words: resolved.anyOf.filter((part) => part.const).map((part) => part.const) }, schema, tools);
  if (resolved.type === "string") return textual(name, resolved, schema, tools);
  return structured(name, schema, tools);
}

/** The schema without references and without null. */
export function resolve(schema, components) {
  if (schema.$ref) return resolve(components[schema.$ref.split("/").pop()], components);
  if (schema.allOf?.length === 1) return resolve(schema.allOf[0], components);
  if (schema.oneOf) return schema;
  if (schema.anyOf) {
    const given = schema.anyOf.filter((part) => part.type !== "null");
    return given.length === 1 ? resolve(given[0], components) : { ...schema, anyOf: given };
  }
  return schema;
}

/** A control with its label, its help and a place for what is wrong with it. */
export function labelled(name, control, help, pointer) {
  const id = freshId(name);
  control.id = id;
  if (pointer) control.dataset.pointer = pointer;
  control.setAttribute("aria-describedby", `${id}-help`);
  return h("div", { class: "field" }, h("label", { for: id }, labelOf(name, pointer)), control, h("p", { id: `${id}-help`, class: "note" }, help ?? ""), h("p", { class: "fault" }));
}

function numeric(name, { type, minimum, maximum, exclusiveMinimum, exclusiveMaximum, words = [] }, schema, { pointer, onChange }) {
  const input = h("input", { type: "text", inputmode: type === "mixed" ? "text" : type === "integer" ? "numeric" : "decimal", autocomplete: "off", oninput: onChange });
  const low = minimum ?? exclusiveMinimum;
  const high = maximum ?? exclusiveMaximum;
  const bounds = low !== undefined && high !== undefined && high < 1e6 ? `${low} to ${high}` : "";
  const help = [schema.description, bounds].filter(Boolean).join("; ");
  return {
    node: labelled(name, input, help, pointer),
    value() {
      const text = input.value.trim();
      if (!text) return undefined;
      const value = Number(text);
      return words.includes(text) || Number.isNaN(value) ? text : value;
    },
    filled: (value) => { if (!input.value.trim()) input.placeholder = value === undefined ? "" : `${shown(value)} (default)`; },
    set: (value) => { input.value = value === null || value === undefined ? "" : shown(value); },
  };
}

const shown = (value) => (typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value ?? "none"));

function textual(name, { maxLength }, schema, { pointer, onChange }) {
  const input = h("input", { type: "text", maxlength: maxLength, autocomplete: "off", spellcheck: "false", oninput: onChange });
  return {
    node: labelled(name, input, schema.description, pointer),
    value: () => input.value.trim() || undefined,
    filled: (value) => { input.placeholder = value ?? ""; },
    set: (value) => { input.value = value ?? ""; },
  };
}

function choice(name, options, schema, { pointer, onChange }) {
  const unset = h("option", { value: "" }, "default");
  const select = h("select", { onchange: onChange }, unset, options.map((option) => h("option", { value: String(option) }, String(option))));
  return {
    node: labelled(name, select, schema.description, pointer),
    value: () => (select.value === "" ? undefined : options.find((option) => String(option) === select.value)),
    filled: (value) => { if (select.value === "") unset.textContent = value === undefined ? "default" : `${shown(value)} (default)`; },
    set: (value) => { select.value = value === undefined || value === null ? "" : String(value); },
  };
}

function structured(name, schema, { pointer, onChange }) {
  const input = h("textarea", { rows: 3, spellcheck: "false", oninput: onChange });
  return {
    node: labelled(name, input, [schema.description, "written as JSON"].filter(Boolean).join("; "), pointer),
    value() {
      if (!input.value.trim()) return undefined;
      try {
        return JSON.parse(input.value);
      } catch {
        return input.value;
      }
    },
    filled: (value) => { input.placeholder = value === undefined ? "" : JSON.stringify(value); },
    set: (value) => { input.value = value === undefined || value === null ? "" : JSON.stringify(value); },
  };
}

/** Kinds: the fields of the chosen one, or of the default one. Any given field names the kind. */
function union(name, resolved, schema, { components, pointer, onChange }) {
  const kinds = Object.keys(resolved.discriminator.mapping);
  const parts = Object.fromEntries(kinds.map((kind) => [kind, resolve({ $ref: resolved.discriminator.mapping[kind] }, components)]));
  const unset = h("option", { value: "" }, "default");
  const select = h("select", { onchange: () => { render(); onChange(); } }, unset, kinds.map((kind) => h("option", { value: kind }, kind.replaceAll("_", " "))));
  const inner = h("div", { class: "inner" });
  const node = h("fieldset", { class: "union" }, h("legend", {}, labelOf(name)), labelled("kind", select, schema.description, pointer), inner);
  let [usual, now] = [null, null]; // the default, and what the spec has now
  let current = null;
  let fields = {};
  const effective = () => select.value || usual?.kind || null;
  function render() {
    const kind = effective();
    const help = parts[kind]?.description ?? schema.description ?? "";
    node.querySelector(".note").textContent = help;
    if (kind !== current) {
      current = kind;
      const properties = Object.entries(parts[kind]?.properties ?? {}).filter(([key]) => key !== "kind");
      fields = Object.fromEntries(properties.map(([key, part]) => [key, field(key, part, { components, pointer, onChange })]));
      fill(inner, ...Object.values(fields).map((one) => one.node));
    }
    for (const [key, one] of Object.entries(fields)) one.filled(now?.kind === kind ? now[key] : parts[kind].properties[key].default);
  }
  return {
    node,
    value() {
      const given = Object.entries(fields).map(([key, one]) => [key, one.value()]).filter(([, value]) => value !== undefined);
      if (!select.value && !given.length) return undefined;
      return { kind: effective(), ...Object.fromEntries(given) };
    },
    filled(value) {
      if (value && !select.value && given(fields)) return; // what was given belongs to a kind: it stays
      now = value ?? null;
      if (!select.value) {
        usual = now;
        unset.textContent = usual ? `${usual.kind.replaceAll("_", " ")} (default)` : "not used";
      }
      render();
    },
    set(value) {
      select.value = value?.kind ?? "";
      render();
      for (const [key, one] of Object.entries(fields)) one.set(value?.[key]);
    },
  };
}

const given = (fields) => Object.values(fields).some((one) => one.value() !== undefined);

/** Show the problem's places beside their fields; the rest is returned. */
export function blame(form, errors) {
  for (const fault of form.querySelectorAll(".fault")) fault.textContent = "";
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  return errors.filter(({ pointer, detail }) => {
    const control = nearestControl(form, pointer);
    if (!control) return true;
    control.setAttribute("aria-invalid", "true");
    const fault = control.closest(".field").querySelector(".fault");
    fault.textContent = `✕ ${detail}`;
    control.closest("details")?.setAttribute("open", "");
    return false;
  });
}

/** Of the pointer itself, or of the closest thing that holds it. */
function nearestControl(form, pointer) {
  for (let parts = pointer.split("/"); parts.length > 1; parts = parts.slice(0, -1)) {
    const found = form.querySelector(`[data-pointer="${CSS.escape(parts.join("/"))}"]`);
    if (found) return found;
  }
  return null;
}
