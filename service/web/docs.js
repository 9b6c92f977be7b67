"use strict";
// The reference, made from /openapi.json. Text only enters the page through textContent.

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function schemaName(ref) {
  return ref.split("/").pop();
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) {
    const name = schemaName(schema.$ref);
    return element("a", { href: `#schema-${name}` }, name);
  }
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return joined(options.map(typeOf), " | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return joined(["[", typeOf(schema.items), "]"], "");
  return schema.format ? `${schema.type} (${schema.format})` : schema.type ?? "any";
}

function joined(nodes, separator) {
  const span = element("span");
  nodes.forEach((node, i) => span.append(...(i && separator ? [separator, node] : [node])));
  return span;
}

function bounds(schema) {
  const shown = { minimum: "≥", exclusiveMinimum: ">", maximum: "≤", exclusiveMaximum: "<" };
  const found = Object.entries(shown).filter(([key]) => key in schema).map(([key, sign]) => `${sign} ${schema[key]}`);
  if (schema.pattern) found.push(schema.pattern);
  if ("default" in schema) found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join(", ");
}

function row(name, schema, required, description) {
  return element("tr", {},
    element("td", {}, element("code", {}, name), required ? " *" : ""),
    element("td", {}, typeOf(schema)),
    element("td", {}, [description ?? schema.description, bounds(schema)].filter(Boolean).join("; ")));
}

function table(rows) {
  return element("div", { class: "wide" }, element("table", {}, element("tbody", {}, ...rows)));
}

function contents(media) {
  return Object.entries(media ?? {}).map(([type, { schema }]) =>
    element("li", {}, element("code", {}, type), " ", typeOf(schema)));
}

function operation(path, method, spec) {
  const details = element("details", { id: spec.operationId ?? `${method}${path}` },
    element("summary", {}, element("b", { class: `method ${method}` }, method.toUpperCase()), " ",
      element("code", {}, path), " ", element("span", { class: "summary" }, (spec.description ?? "").split("\n")[0])),
    element("p", {}, spec.description ?? ""));
  if (spec.parameters?.length) {
    details.append(element("h4", {}, "Parameters"), table(spec.parameters.map((parameter) =>
      row(`${parameter.name} (${parameter.in})`, parameter.schema, parameter.required, parameter.description))));
  }
  if (spec.requestBody) details.append(element("h4", {}, "Body"), element("ul", {}, ...contents(spec.requestBody.content)));
  details.append(element("h4", {}, "Answers"), table(Object.entries(spec.responses).map(([status, answer]) =>
    element("tr", {}, element("td", {}, status), element("td", {}, answer.description),
      element("td", {}, element("ul", {}, ...contents(answer.content)))))));
  return details;
}

function schemaDetails(name, schema) {
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([field, part]) => row(field, part, required.has(field)));
  return element("details", { id: `schema-${name}` }, element("summary", {}, element("code", {}, name)),
    element("p", {}, schema.description ?? ""), table(rows));
}

function groups(paths) {
  const found = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, spec] of Object.entries(methods)) {
      const tag = spec.tags?.[0] ?? "other";
      found.set(tag, [...(found.get(tag) ?? []), operation(path, method, spec)]);
    }
  }
  return found;
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
}

async function show() {
  const document_ = await (await fetch("/openapi.json")).json();
  document.getElementById("lead").textContent = `version ${document_.info.version}. ${document_.info.description}`;
  for (const [tag, nodes] of groups(document_.paths)) {
    document.getElementById("contents").append(element("a", { href: `#group-${tag}` }, tag), " ");
    document.getElementById("operations").append(element("h2", { id: `group-${tag}` }, tag), ...nodes);
  }
  document.getElementById("schemas-title").hidden = false;
  const schemas = Object.entries(document_.components.schemas).sort(([a], [b]) => a.localeCompare(b));
  document.getElementById("schemas").append(...schemas.map(([name, schema]) => schemaDetails(name, schema)));
  window.addEventListener("hashchange", openTarget);
  openTarget();
}

show().catch((error) => { document.getElementById("lead").textContent = `cannot be shown: ${error}`; });
