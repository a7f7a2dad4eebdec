// Marks on the picture: places (x, y) in its pixels, from its upper left corner; the first pixel is 0 to 1.
const MOST = 50; // marks of one case; readers set up to five, and the server takes no more than 100
const NEAR = 14; // CSS px within which a click means the mark that is there

/** `changed(what, place)`: set or removed. */
export class Marks {
  constructor(viewer, overlay, list, changed) {
    this.viewer = viewer;
    this.overlay = overlay;
    this.list = list;
    this.changed = changed;
    this.places = [];
    list.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-mark]");
      if (button) this.remove(Number(button.dataset.mark));
    });
  }

  show(places = []) {
    this.places = places.map(([x, y]) => [x, y]);
    this.#tell();
  }

  #tell() {
    this.overlay.marks = this.places;
    this.viewer.ask();
    this.list.replaceChildren(...this.places.map(([x, y], index) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.mark = String(index);
      button.setAttribute("aria-label", `Remove mark ${index + 1} at ${Math.floor(x)}, ${Math.floor(y)}`);
      button.textContent = "Remove";
      item.append(`${Math.floor(x)}, ${Math.floor(y)} `, button);
      return item;
    }));
  }

  /** Whether a place lies on the picture. */
  inside([x, y]) {
    const picture = this.viewer.picture;
    return picture !== null && x >= 0 && y >= 0 && x <= picture.columns && y <= picture.rows;
  }

  /** The index of the mark near a place, or -1. */
  near([x, y]) {
    const reach = (NEAR * this.viewer.ratio) / this.viewer.zoom;
    return this.places.findIndex(([a, b]) => Math.hypot(a - x, b - y) <= reach);
  }

  /** Sets a mark. @returns {boolean} whether it was set */
  set(place) {
    if (!this.inside(place) || this.places.length >= MOST) return false;
    const rounded = place.map((at) => Math.round(at * 10) / 10);
    this.places.push(rounded);
    this.#tell();
    this.changed("mark", rounded);
    return true;
  }

  remove(index) {
    if (index < 0 || index >= this.places.length) return;
    const [gone] = this.places.splice(index, 1);
    this.#tell();
    this.changed("unmark", gone);
  }

  /** A click with the modifier, or in mark mode: sets a mark, or takes away the one that is there. */
  toggle(place) {
    const there = this.near(place);
    if (there >= 0) this.remove(there);
    else this.set(place);
  }
}
