// Images as pixels from the server, drawn on canvases: a page needs no picture from a file, and no policy that allows it.

import { get, request } from "/static/lib/api.js";
import { readNpy } from "/static/lib/npy.js";
import { h } from "/static/lib/dom.js";

const MOST_BYTES = 8 << 20;

/** { n, size, channels, data, raw, labels, total } of images of a dataset; at most `limit`, and of a few megabytes. */
export async function picturesOf(name, { split = "test", offset = 0, limit = 60, size, channels = 3, labels = false } = {}) {
  const fitting = Math.max(1, Math.min(limit, Math.floor(MOST_BYTES / ((size ?? 64) ** 2 * channels))));
  const query = new URLSearchParams({ split, offset, limit: fitting, ...(size ? { size } : {}) });
  const path = `/v1/datasets/${name}/images?${query}`;
  const [pixels, named] = await Promise.all([
    request(path, { accept: "application/x-npy" }).then((response) => response.arrayBuffer()),
    labels ? get(path) : null,
  ]);
  return { ...picturesFrom(pixels), labels: named?.labels ?? [], total: named?.total };
}

/** The same of the bytes of an .npy file, uint8 (n, h, w, c). */
export function picturesFrom(buffer) {
  const { shape: [n, size, width, channels], data } = readNpy(buffer);
  return { n, size, width, channels, data, raw: buffer, labels: [] };
}

/** Image `i` on a canvas of its own pixels; `title` says what it is. */
export function picture(pictures, i, title = "", { size = 56, ...props } = {}) {
  const { size: height, width, channels, data } = pictures;
  const canvas = h("canvas", { width, height, class: "picture", role: "img", "aria-label": title || `image ${i}`, title, ...props });
  canvas.style.setProperty("--picture", `${size}px`);
  const pixels = new ImageData(width, height);
  const start = i * height * width * channels;
  for (let p = 0; p < height * width; p += 1) {
    for (let c = 0; c < 3; c += 1) pixels.data[4 * p + c] = data[start + p * channels + (channels === 3 ? c : 0)];
    pixels.data[4 * p + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** A file of an image on a canvas, at most `size` pixels a side; null where the browser cannot show it. */
export async function preview(blob, title, size = 128) {
  try {
    const bitmap = await createImageBitmap(blob);
    const factor = Math.min(1, (2 * size) / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * factor)));
    const canvas = h("canvas", { width, height, class: "picture", role: "img", "aria-label": title, title });
    canvas.style.setProperty("--picture", `${size}px`);
    canvas.getContext("2d").drawImage(bitmap, 0, 0, width, height);
    return canvas;
  } catch {
    return null;
  }
}
