// What a reader did with a case, in order: the study may ask later how long people looked before they decided.

const MOST = 500; // acts of one answer: beyond that it is play, and the record stays small (the server takes 5,000)
const FOR_VIEW = 400; // of these for window, zoom and pan, so that there is always room for ratings
const VALUE = 64; // characters
const TOGETHER = 300; // ms: a drag or a turn of the wheel is one act, told at its end

export class Acts {
  constructor(clock) {
    this.clock = clock;
    this.list = [];
  }

  start(list = []) {
    this.list = list.slice(0, MOST);
  }

  /** A rating, a mark, a key of the reader. */
  add(what, value = "") {
    if (this.list.length < MOST) this.list.push({ at: this.clock.at(), what, value: String(value).slice(0, VALUE) });
  }

  /** A change of the view: joined with the one before when it follows at once. */
  view(what, value) {
    const last = this.list[this.list.length - 1];
    const at = this.clock.at();
    if (last?.what === what && at - last.at < TOGETHER) {
      last.at = at;
      last.value = String(value).slice(0, VALUE);
    } else if (this.list.length < FOR_VIEW) {
      this.add(what, value);
    }
  }
}
