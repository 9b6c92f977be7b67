// What is wrong with the page that is shown: ({ unnamed, repeated, faint }), each a list that should be empty.
(() => {
  const CONTROLS = "a, button, input, select, textarea, progress, [role=img]";

  /** Controls and pictures without a name. */
  const unnamed = () => [...document.querySelectorAll(CONTROLS)]
    .filter((node) => node.checkVisibility())
    .filter((node) => !(node.getAttribute("aria-label") || node.title || node.textContent.trim() || node.labels?.length))
    .map((node) => node.outerHTML);

  const repeated = () => {
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    return ids.filter((id, i) => ids.indexOf(id) !== i);
  };

  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };

  /** Relative luminance, as WCAG 2 defines it. */
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };

  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255];
  };

  const contrast = (node) => {
    const [light, dark] = [rgba(getComputedStyle(node).color), behind(node)].map(luminance).sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };

  const hasText = (node) => [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.textContent.trim());

  /** Texts whose contrast with what is behind them is below `least`. */
  const faint = (least) => [...document.querySelectorAll("body *")]
    .filter((node) => hasText(node) && node.checkVisibility() && !node.closest("svg, :disabled"))
    .map((node) => [contrast(node), node.textContent.trim().slice(0, 40)])
    .filter(([ratio]) => ratio < least);

  return { unnamed, repeated, faint };
})()
