// Time a case was in view, and time away from it: page hidden, or reading paused. In seconds, from a clock that does
// not jump when the computer's is set.

export class Clock {
  constructor(now = () => performance.now()) {
    this.now = now;
    this.viewed = 0;
    this.gone = 0;
    this.since = null; // when the present stretch began; null: not running
    this.out = false;
  }

  /** Begins with a case; `seconds` and `away` go on from a draft. */
  start(seconds = 0, away = 0) {
    this.viewed = seconds * 1000;
    this.gone = away * 1000;
    this.began = this.now() - this.viewed - this.gone;
    this.since = this.now();
  }

  #settle() {
    if (this.since === null) return;
    const now = this.now();
    if (this.out) this.gone += now - this.since;
    else this.viewed += now - this.since;
    this.since = now;
  }

  /** Tells whether the reader is away from now on. */
  away(out) {
    this.#settle();
    this.out = out;
  }

  stop() {
    this.#settle();
    this.since = null;
  }

  /** {seconds, away}, to the millisecond. */
  read() {
    this.#settle();
    return { seconds: Math.round(this.viewed) / 1000, away: Math.round(this.gone) / 1000 };
  }

  /** ms since the case was shown, hidden times included. */
  at() {
    return this.since === null ? 0 : Math.round(this.now() - this.began);
  }
}
