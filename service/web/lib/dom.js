// Small helpers to make elements. Text enters a page as text nodes only, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("a", { href, class, onclick, disabled }, ...children)`. null and false children are left out. */
export function h(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Replace what `node` holds. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Say something to people who do not see the page. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

let lastId = 0;

/** An id that no other element has. */
export function freshId(stem = "x") {
  lastId += 1;
  return `${stem}-${lastId}`;
}

/** `work` a while after the last call. */
export function debounced(work, wait_ms = 300) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), wait_ms);
  };
}

/** Let the browser save `blob` under `name`. */
export function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
