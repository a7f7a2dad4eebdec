// Hands on the picture: mouse, touch pad, toolbar, and the keys of the view.

const WINDOW_STEP = 0.05; // of the width, a press of a key; with Shift a fifth of it
const PAN = 60; // CSS px a press of an arrow; with Shift four times as far
const CROSS = 10; // CSS px a press of an arrow in mark mode; with Shift one pixel of the picture
const DRAG = 400; // CSS px that double or halve nearly thrice: a full width of the window up or down
const WHEEL = 0.0015; // zoom per unit of a wheel's turn
const CLICK = 4; // CSS px under which a drag is a click

/** Wires the picture. `did(what, value)` is told what the acts record beside the view itself. */
export class Tools {
  constructor({ viewer, overlay, marks, allowMarks, page, did, say }) {
    Object.assign(this, { viewer, overlay, marks, allowMarks, page, did, say });
    this.marking = false;
    this.drag = null;
    this.#pointer(viewer.canvas);
    this.#toolbar();
    viewer.after.push(() => this.refresh());
  }

  #by(id) {
    return this.page.querySelector(`#${id}`);
  }

  /** Every case begins without mark mode and magnifier. */
  reset() {
    this.setMarking(false, false);
    this.setLens(false, false);
  }

  #pointer(canvas) {
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => { this.drag = null; });
    canvas.addEventListener("pointerleave", () => {
      this.overlay.pointer = null;
      if (this.overlay.lens) this.viewer.ask();
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault()); // the right button moves the picture
    canvas.addEventListener("dblclick", (event) => {
      if (this.marking || event.ctrlKey || event.metaKey) return;
      if (this.viewer.fitted) {
        this.viewer.zoomTo(1, this.viewer.place(event));
        this.viewer.centreOn(...this.viewer.toPicture(...this.viewer.place(event)));
      } else this.viewer.fit();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const turn = event.deltaY * (event.deltaMode === 1 ? 33 : 1); // lines in some browsers
      this.viewer.zoomBy(Math.exp(-Math.max(-300, Math.min(300, turn)) * WHEEL), this.viewer.place(event));
    }, { passive: false });
  }

  #down(event) {
    if (!this.viewer.picture) return;
    const mark = event.button === 0 && this.allowMarks && (this.marking || event.ctrlKey || event.metaKey);
    const how = mark ? "mark" : event.button === 0 && !event.shiftKey ? "window" : "pan";
    this.viewer.canvas.setPointerCapture(event.pointerId);
    this.drag = {
      how, at: [event.clientX, event.clientY], last: [event.clientX, event.clientY], window: [...this.viewer.window],
      moved: false,
    };
  }

  #move(event) {
    this.overlay.pointer = this.viewer.place(event);
    if (this.overlay.lens) this.viewer.ask();
    this.#readout(event);
    const { drag } = this;
    if (!drag) return;
    const across = event.clientX - drag.at[0];
    const down = event.clientY - drag.at[1];
    if (!drag.moved && Math.hypot(across, down) < CLICK) return;
    drag.moved = true;
    if (drag.how === "window") {
      const [centre, width] = drag.window;
      this.viewer.setWindow(
        Math.round(centre + (down * Math.max(width, 16)) / DRAG), Math.max(1, Math.round(width * 2 ** ((3 * across) / DRAG))),
      );
    } else if (drag.how === "pan") {
      const { ratio } = this.viewer;
      this.viewer.panBy((event.clientX - drag.last[0]) * ratio, (event.clientY - drag.last[1]) * ratio);
    }
    drag.last = [event.clientX, event.clientY];
  }

  #up(event) {
    if (this.drag?.how === "mark" && !this.drag.moved) this.marks.toggle(this.viewer.toPicture(...this.viewer.place(event)));
    this.drag = null;
  }

  #readout(event) {
    const { picture } = this.viewer;
    const out = this.#by("readout");
    if (!picture) {
      out.textContent = "";
      return;
    }
    const [x, y] = this.viewer.toPicture(...this.viewer.place(event)).map(Math.floor);
    const inside = x >= 0 && y >= 0 && x < picture.columns && y < picture.rows;
    out.textContent = inside ? `${x}, ${y}: ${picture.values[y * picture.columns + x]}` : "";
  }

  #toolbar() {
    const on = (id, act) => this.#by(id).addEventListener("click", (event) => {
      act();
      // after a click the keys belong to the picture again: Enter must save, not press the button once more
      if (event.detail > 0) this.viewer.canvas.focus({ preventScroll: true });
    });
    on("invert", () => this.viewer.setInvert(!this.viewer.invert));
    on("window-reset", () => this.viewer.resetWindow());
    on("zoom-in", () => this.viewer.zoomStep(1));
    on("zoom-out", () => this.viewer.zoomStep(-1));
    on("fit", () => this.viewer.fit());
    on("one-to-one", () => this.viewer.zoomTo(1));
    on("magnifier", () => this.setLens(!this.overlay.lens));
    on("mark-mode", () => this.setMarking(!this.marking));
    for (const id of ["window-centre", "window-width"]) {
      this.#by(id).addEventListener("change", () => {
        const centre = this.#by("window-centre").valueAsNumber;
        const width = this.#by("window-width").valueAsNumber;
        this.viewer.setWindow(centre, width);
        this.refresh(true);
      });
    }
  }

  /** Shows the view's figures in the toolbar. */
  refresh(always = false) {
    const { viewer } = this;
    const pressed = (id, on) => this.#by(id).setAttribute("aria-pressed", String(on));
    pressed("invert", viewer.invert);
    pressed("fit", viewer.fitted);
    pressed("one-to-one", viewer.zoom === 1);
    pressed("magnifier", this.overlay.lens);
    pressed("mark-mode", this.marking);
    const percent = viewer.zoom * 100;
    this.#by("zoom").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
    for (const [id, value] of [["window-centre", viewer.window[0]], ["window-width", viewer.window[1]]]) {
      const input = this.#by(id);
      input.disabled = !viewer.picture;
      if (always || document.activeElement !== input) input.value = viewer.picture ? String(Math.round(value * 10) / 10) : "";
    }
  }

  setLens(on, tell = true) {
    this.overlay.lens = on;
    this.viewer.ask();
    if (tell) {
      this.did("magnifier", on ? "on" : "off");
      this.say(on ? "Magnifier on" : "Magnifier off");
    }
  }

  setMarking(on, tell = true) {
    if (!this.allowMarks) return;
    this.marking = on;
    this.overlay.cursor = on && this.viewer.picture ? this.#middle() : null;
    this.#by("mode").hidden = !on;
    this.#by("mode").textContent = "Mark mode: click, or arrow keys and Space. k ends it.";
    this.viewer.canvas.classList.toggle("marking", on);
    this.viewer.ask();
    if (tell) this.say(on ? "Mark mode. Arrow keys move the cross, Space sets a mark." : "Mark mode ended");
  }

  #middle() {
    const { picture, canvas } = this.viewer;
    const [x, y] = this.viewer.toPicture(canvas.width / 2, canvas.height / 2);
    return [Math.min(picture.columns, Math.max(0, x)), Math.min(picture.rows, Math.max(0, y))];
  }

  #cross(across, down, shift) {
    const { viewer, overlay } = this;
    const step = shift ? 1 : (CROSS * viewer.ratio) / viewer.zoom;
    const { columns, rows } = viewer.picture;
    overlay.cursor = [
      Math.min(columns, Math.max(0, overlay.cursor[0] + across * step)),
      Math.min(rows, Math.max(0, overlay.cursor[1] + down * step)),
    ];
    const [x, y] = viewer.toScreen(...overlay.cursor);
    if (x < 0 || y < 0 || x > viewer.canvas.width || y > viewer.canvas.height) viewer.centreOn(...overlay.cursor);
    viewer.ask();
  }

  /** A key of the view. `key` is its name. @returns {boolean} whether it was one */
  key(key, event) {
    const { viewer } = this;
    if (!viewer.picture) return false;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (key in arrows) {
      const [across, down] = arrows[key];
      const far = PAN * viewer.ratio * (event.shiftKey ? 4 : 1);
      if (this.marking) this.#cross(across, down, event.shiftKey);
      else viewer.panBy(-across * far, -down * far);
      return true;
    }
    if (this.marking) {
      if (key === "Space") this.marks.toggle([...this.overlay.cursor]);
      else if (key === "Delete" || key === "Backspace") this.marks.remove(this.marks.places.length - 1);
      else if (key === "Escape") this.setMarking(false);
      else return this.#letter(key, event);
      return true;
    }
    return this.#letter(key, event);
  }

  #letter(key, event) {
    const { viewer } = this;
    const [centre, width] = viewer.window;
    const part = Math.max(1, Math.round(width * WINDOW_STEP * (event.shiftKey ? 0.2 : 1)));
    const acts = {
      w: () => viewer.setWindow(centre, Math.max(1, width - part)),
      e: () => viewer.setWindow(centre, width + part),
      s: () => viewer.setWindow(centre + part, width),
      d: () => viewer.setWindow(centre - part, width),
      r: () => viewer.resetWindow(),
      i: () => viewer.setInvert(!viewer.invert),
      "+": () => viewer.zoomStep(1),
      "=": () => viewer.zoomStep(1), // the same key on an English keyboard, without Shift
      "-": () => viewer.zoomStep(-1),
      _: () => viewer.zoomStep(-1),
      f: () => viewer.fit(),
      0: () => viewer.fit(), // where no question takes it
      o: () => viewer.zoomTo(1),
      m: () => this.setLens(!this.overlay.lens),
      k: () => this.setMarking(!this.marking),
    };
    if (!Object.hasOwn(acts, key) || (event.repeat && "imko".includes(key))) return false;
    acts[key]();
    return true;
  }
}
