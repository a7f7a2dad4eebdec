// The picture on the screen: window, zoom, pan, invert. Marks and the magnifier lie on a canvas above it (overlay.js),
// so that this canvas holds nothing but greys of the picture.
import { covered, greyTable, painted, sampled } from "./grey.js";

const LADDER = [1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32];
const BLACK = "#000";

/** One picture in one canvas. `changed(what)` is called after the reader changed the view: window, zoom, pan, invert. */
export class Viewer {
  constructor(canvas, changed = () => {}) {
    this.canvas = canvas;
    this.changed = changed;
    this.context = canvas.getContext("2d", { alpha: false });
    this.picture = null; // {token, values, rows, columns, bits, window}
    this.window = [1, 1];
    this.invert = false;
    this.zoom = 1; // screen (device) pixels per picture pixel
    this.centre = [0, 0]; // the picture's coordinates at the middle of the canvas
    this.fitted = true; // follows the size of the canvas until the reader zooms or pans
    this.after = []; // called after every drawing
    this.image = null;
    this.held = null; // what was sampled last: changing the window alone does not sample again
    this.asked = false;
    this.spent = 0; // ms of the last drawing, for measuring
    const observer = new ResizeObserver((entries) => this.#resized(entries[entries.length - 1]));
    try {
      observer.observe(canvas, { box: "device-pixel-content-box" });
    } catch {
      observer.observe(canvas); // a browser without device pixels in its layout: rounded below
    }
  }

  #resized(entry) {
    const device = entry.devicePixelContentBoxSize?.[0];
    const ratio = window.devicePixelRatio || 1;
    // the layout's own count where it agrees with the window's to a pixel (it does not where a device is emulated)
    const side = (own, css) => Math.max(1, own && Math.abs(own - css * ratio) <= 1 ? own : Math.round(css * ratio));
    const width = side(device?.inlineSize, entry.contentRect.width);
    const height = side(device?.blockSize, entry.contentRect.height);
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.image = null;
    this.held = null;
    if (this.fitted) this.#fit();
    this.draw(); // at once: a resized canvas is empty
  }

  /** Shows a picture: its own window, whole, not inverted. Every case begins alike. */
  show(picture) {
    this.picture = picture;
    this.window = [...picture.window];
    this.invert = false;
    this.held = null;
    this.#fit();
    this.draw();
  }

  /** Shows nothing. */
  clear() {
    this.picture = null;
    this.held = null;
    this.draw();
  }

  /** Screen pixels per CSS pixel, as laid out. */
  get ratio() {
    const width = this.canvas.getBoundingClientRect().width;
    return width > 0 ? this.canvas.width / width : window.devicePixelRatio || 1;
  }

  /** The picture's coordinates at the canvas's upper left corner: whole screen pixels at 1:1 and above. */
  get origin() {
    const x = this.centre[0] - this.canvas.width / (2 * this.zoom);
    const y = this.centre[1] - this.canvas.height / (2 * this.zoom);
    if (this.zoom < 1) return [x, y];
    return [Math.round(x * this.zoom) / this.zoom, Math.round(y * this.zoom) / this.zoom];
  }

  /** Screen pixel (from the canvas's corner) to picture. */
  toPicture(x, y) {
    const [left, top] = this.origin;
    return [left + x / this.zoom, top + y / this.zoom];
  }

  /** Picture to screen pixel. */
  toScreen(x, y) {
    const [left, top] = this.origin;
    return [(x - left) * this.zoom, (y - top) * this.zoom];
  }

  /** A pointer event's place in screen pixels of the canvas. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
  }

  get fitZoom() {
    if (!this.picture) return 1;
    const zoom = Math.min(this.canvas.width / this.picture.columns, this.canvas.height / this.picture.rows);
    return zoom >= 1 ? Math.floor(zoom) : zoom; // above 1:1 a whole number, so that all pixels are the same size
  }

  #fit() {
    if (!this.picture) return;
    this.zoom = this.fitZoom;
    this.centre = [this.picture.columns / 2, this.picture.rows / 2];
    this.fitted = true;
  }

  fit() {
    this.#fit();
    this.#tell("zoom");
  }

  /** Zooms so that what lies under the screen pixel `at` (the middle, if none) stays there. */
  zoomTo(zoom, at = null) {
    if (!this.picture) return;
    const least = Math.min(this.fitZoom, LADDER[0]);
    const wanted = Math.min(LADDER[LADDER.length - 1], Math.max(least, zoom));
    const [x, y] = at ?? [this.canvas.width / 2, this.canvas.height / 2];
    const held = at ? this.toPicture(x, y) : this.centre; // the middle stays to the last fraction, however often zoomed
    this.zoom = wanted;
    this.centre = [
      held[0] + (this.canvas.width / 2 - x) / wanted,
      held[1] + (this.canvas.height / 2 - y) / wanted,
    ];
    this.fitted = false;
    this.#keepIn();
    this.#tell("zoom");
  }

  /** The next step of zoom in (+1) or out (-1). */
  zoomStep(direction, at = null) {
    const steps = direction > 0 ? LADDER : [...LADDER].reverse();
    const next = steps.find((step) => (step - this.zoom) * direction > this.zoom * 1e-6);
    if (next !== undefined) this.zoomTo(next, at);
  }

  /** Zooms by a factor (a wheel); stops at 1:1 on its way through. */
  zoomBy(factor, at = null) {
    const wanted = this.zoom * factor;
    this.zoomTo((this.zoom < 1 && wanted > 1) || (this.zoom > 1 && wanted < 1) ? 1 : wanted, at);
  }

  /** Moves the picture by screen pixels. */
  panBy(x, y) {
    if (!this.picture) return;
    this.centre = [this.centre[0] - x / this.zoom, this.centre[1] - y / this.zoom];
    this.fitted = false;
    this.#keepIn();
    this.#tell("pan");
  }

  /** Brings a place of the picture to the middle. */
  centreOn(x, y) {
    this.centre = [x, y];
    this.fitted = false;
    this.#keepIn();
    this.#tell("pan");
  }

  #keepIn() {
    this.centre = [
      Math.min(this.picture.columns, Math.max(0, this.centre[0])),
      Math.min(this.picture.rows, Math.max(0, this.centre[1])),
    ];
  }

  setWindow(centre, width) {
    if (!this.picture || !Number.isFinite(centre) || !Number.isFinite(width)) return;
    const range = 2 ** this.picture.bits;
    this.window = [Math.min(2 * range, Math.max(-range, centre)), Math.min(4 * range, Math.max(1, width))];
    this.#tell("window");
  }

  resetWindow() {
    if (this.picture) this.setWindow(...this.picture.window);
  }

  setInvert(invert) {
    if (!this.picture) return;
    this.invert = invert;
    this.#tell("invert");
  }

  /** Takes up a view kept before (a draft's window). */
  restore(window) {
    if (!this.picture || !window) return;
    this.window = [...window];
    this.ask();
  }

  #tell(what) {
    this.ask();
    this.changed(what);
  }

  /** Draws with the next frame, once, however often asked. */
  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      if (this.asked) this.draw();
    });
  }

  draw() {
    this.asked = false;
    const { canvas, context, picture } = this;
    const began = performance.now();
    if (!picture) {
      context.fillStyle = BLACK;
      context.fillRect(0, 0, canvas.width, canvas.height);
    } else {
      const { part, values } = this.#sampled();
      if (part.width !== canvas.width || part.height !== canvas.height) {
        context.fillStyle = BLACK;
        context.fillRect(0, 0, canvas.width, canvas.height);
      }
      if (values.length > 0) {
        if (this.image?.width !== part.width || this.image?.height !== part.height) {
          this.image = new ImageData(part.width, part.height);
        }
        painted(values, greyTable(this.window[0], this.window[1], this.invert), new Uint32Array(this.image.data.buffer));
        context.putImageData(this.image, part.left, part.top);
      }
    }
    this.spent = performance.now() - began;
    for (const call of this.after) call();
  }

  #sampled() {
    const { canvas, picture, zoom, origin } = this;
    const key = `${zoom}/${origin[0]}/${origin[1]}`;
    if (this.held?.key === key) return this.held;
    const part = covered(picture, origin, zoom, canvas.width, canvas.height);
    this.held = { key, part, values: sampled(picture, origin, zoom, part) };
    return this.held;
  }
}
