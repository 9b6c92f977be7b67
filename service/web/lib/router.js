// The part after # says which view is shown; a view lives until the next one: its signal is aborted then.

import { announce } from "/static/lib/dom.js";

const routes = [];
let leaving = new AbortController();

/** Show `view(params, query, signal)` for a pattern such as "/jobs/:id"; it gives nodes, perhaps later, and a title. */
export function route(pattern, view) {
  const names = [...pattern.matchAll(/:(\w+)/g)].map(([, name]) => name);
  routes.push({ pattern: new RegExp(`^${pattern.replace(/:\w+/g, "([^/]+)")}$`), names, view });
}

/** The hash of a place. */
export function link(path, query = {}) {
  const text = new URLSearchParams(query).toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

export function go(path, query) {
  location.hash = link(path, query);
}

/** Show the view of the address now and whenever it changes; `otherwise(path)` where an address has none. */
export function start(main, { onShow, onError, otherwise }) {
  const show = async () => {
    leaving.abort();
    const { signal } = (leaving = new AbortController());
    const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
    const { view, params } = matching(path) ?? { view: () => otherwise(path) };
    onShow(path);
    main.setAttribute("aria-busy", "true");
    try {
      const nodes = await view(params, new URLSearchParams(query), signal);
      if (!signal.aborted) main.replaceChildren(...[nodes].flat());
    } catch (error) {
      if (!signal.aborted) main.replaceChildren(onError(error));
    }
    if (signal.aborted) return;
    main.removeAttribute("aria-busy");
    main.dataset.shown = location.hash || "#/";
    const heading = main.querySelector("h1");
    document.title = heading ? `${heading.textContent} · nidim` : "nidim";
    if (started) {
      window.scrollTo(0, 0);
      main.focus({ preventScroll: true });
      announce(heading?.textContent ?? "");
    }
    started = true;
  };
  let started = false;
  window.addEventListener("hashchange", show);
  show();
  return show;
}

function matching(path) {
  for (const { pattern, names, view } of routes) {
    const found = path.match(pattern);
    if (found) return { view, params: Object.fromEntries(names.map((name, i) => [name, decoded(found[i + 1])])) };
  }
  return null;
}

/** A part of an address, as it stands where somebody has typed a % that begins no code. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
