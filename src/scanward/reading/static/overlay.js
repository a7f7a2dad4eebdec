// What lies over the picture: marks, the keyboard's cursor, the magnifier. A canvas of its own.
import { covered, greyTable, painted, sampled } from "./grey.js";

const INK = "#ffc857"; // amber: seen on black and, with its dark rim, on white
const RIM = "rgba(0, 0, 0, 0.85)";
const LENS = 150; // radius of the magnifier, CSS px
const LENS_ZOOM = 2; // how much larger than the picture around it, and never under 1:1

/** Draws marks [[x, y], ...], the cursor [x, y] and the lens over a viewer. */
export class Overlay {
  constructor(canvas, viewer) {
    this.canvas = canvas;
    this.viewer = viewer;
    this.context = canvas.getContext("2d");
    this.marks = [];
    this.cursor = null; // the keyboard's, in the picture's coordinates
    this.pointer = null; // the mouse's, in screen pixels
    this.lens = false;
    viewer.after.push(() => this.draw());
  }

  draw() {
    const { canvas, context, viewer } = this;
    if (canvas.width !== viewer.canvas.width || canvas.height !== viewer.canvas.height) {
      canvas.width = viewer.canvas.width;
      canvas.height = viewer.canvas.height;
    }
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!viewer.picture) return;
    if (this.lens) this.#lens();
    const unit = viewer.ratio;
    this.marks.forEach((mark, index) => this.#mark(mark, String(index + 1), unit));
    if (this.cursor) this.#cross(this.cursor, unit);
  }

  #twice(path, unit) {
    const { context } = this;
    context.lineCap = "round";
    for (const [style, width] of [[RIM, 5], [INK, 2]]) {
      context.strokeStyle = style;
      context.lineWidth = width * unit;
      context.beginPath();
      path();
      context.stroke();
    }
  }

  #mark(mark, label, unit) {
    const { context } = this;
    const [x, y] = this.viewer.toScreen(...mark);
    this.#twice(() => context.arc(x, y, 11 * unit, 0, 2 * Math.PI), unit);
    context.font = `600 ${13 * unit}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 4 * unit;
    context.strokeStyle = RIM;
    context.strokeText(label, x + 16 * unit, y - 11 * unit);
    context.fillStyle = INK;
    context.fillText(label, x + 16 * unit, y - 11 * unit);
  }

  #cross(cursor, unit) {
    const { context } = this;
    const [x, y] = this.viewer.toScreen(...cursor);
    this.#twice(() => {
      for (const [across, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + across * 5 * unit, y + down * 5 * unit);
        context.lineTo(x + across * 18 * unit, y + down * 18 * unit);
      }
    }, unit);
  }

  /** Where the lens looks, screen pixels: the keyboard's cursor, else the pointer, else the middle. */
  get lensAt() {
    if (this.cursor) return this.viewer.toScreen(...this.cursor);
    return this.pointer ?? [this.canvas.width / 2, this.canvas.height / 2];
  }

  #lens() {
    const { context, viewer } = this;
    const radius = Math.round(LENS * viewer.ratio);
    const size = 2 * radius;
    const zoom = Math.max(1, LENS_ZOOM * viewer.zoom);
    const [x, y] = this.lensAt.map(Math.round);
    const middle = viewer.toPicture(x, y);
    const origin = middle.map((at) => Math.round((at - radius / zoom) * zoom) / zoom);
    const part = covered(viewer.picture, origin, zoom, size, size);
    const image = new ImageData(size, size);
    const words = new Uint32Array(image.data.buffer);
    const inside = new Uint32Array(part.width * part.height);
    painted(
      sampled(viewer.picture, origin, zoom, part),
      greyTable(viewer.window[0], viewer.window[1], viewer.invert),
      inside,
    );
    for (let j = 0; j < size; j += 1) {
      const half = Math.floor(Math.sqrt(Math.max(0, radius * radius - (j - radius + 0.5) ** 2)));
      words.fill(0xff000000, j * size + radius - half, j * size + radius + half);
      if (j < part.top || j >= part.top + part.height) continue;
      const from = Math.max(part.left, radius - half);
      const to = Math.min(part.left + part.width, radius + half);
      const line = (j - part.top) * part.width;
      if (to > from) words.set(inside.subarray(line + from - part.left, line + to - part.left), j * size + from);
    }
    context.putImageData(image, x - radius, y - radius);
    this.#twice(() => context.arc(x, y, radius, 0, 2 * Math.PI), viewer.ratio);
  }
}
