// Which case is next: the server's order, what this page has answered and the server does not know yet, and the way
// back. No page and no network here.

/** The course through one session. `current` is a case of the server's list; `place` is null when reading on, else
 * the index in `answered` of the case looked at again. */
export class Course {
  constructor() {
    this.session = null;
    this.progress = { answered: 0, cases: 0, session_answered: 0, session_cases: 0 };
    this.coming = []; // cases without an answer, in order, the current one first
    this.answered = []; // tokens answered in this session, in order, as far as this page knows
    this.counted = new Set(); // of these, what the server's progress counts
    this.own = new Map(); // token -> {item, answer}: what this page has answered
    this.place = null;
  }

  /** Takes the server's word. @returns whether the session is another one than before */
  take(state) {
    const other = this.session !== null && (state.session?.number ?? null) !== this.session.number;
    if (other || this.session === null) {
      this.answered = [];
      this.place = null;
    }
    if (other) this.own.clear();
    this.session = state.session ?? null;
    this.progress = state.progress;
    this.counted = new Set(state.answered ?? []);
    for (const token of [...(state.answered ?? [])].reverse()) {
      if (!this.answered.includes(token)) this.answered.unshift(token);
    }
    this.coming = [state.case, ...(state.next ?? [])].filter((item) => item && !this.answered.includes(item.token));
    return other;
  }

  /** Answers kept here from before this page was loaded: their cases are done. */
  know(answers) {
    for (const answer of answers) this.#done(answer.token);
  }

  #done(token) {
    this.coming = this.coming.filter((item) => item.token !== token);
    if (!this.answered.includes(token)) this.answered.push(token);
  }

  /** The case to be read now, or null. */
  get current() {
    return this.coming[0] ?? null;
  }

  /** An answer was given to a case: it is behind us. */
  give(item, answer) {
    this.own.set(item.token, { item, answer });
    if (this.place === null) this.#done(item.token);
    else this.forward();
  }

  /** The server refused an answer: if it was the first, its case may be asked again. */
  forget(answer) {
    if (answer.revision > 0) return;
    this.answered = this.answered.filter((token) => token !== answer.token);
    this.own.delete(answer.token);
    this.place = null;
  }

  /** From a case looked at again to the one after it. */
  forward() {
    this.place = this.place !== null && this.place + 1 < this.answered.length ? this.place + 1 : null;
  }

  get canGoBack() {
    return this.place === null ? this.answered.length > 0 : this.place > 0;
  }

  /** Steps back. @returns the token to look at, or null */
  back() {
    if (!this.canGoBack) return null;
    this.place = this.place === null ? this.answered.length - 1 : this.place - 1;
    return this.answered[this.place];
  }

  /** Back to the case that is to be read. */
  leave() {
    this.place = null;
  }

  get revising() {
    return this.place !== null ? this.answered[this.place] : null;
  }

  /** How many answers of this session there are, those under way included. `queued`: new answers not acknowledged. */
  count(queued) {
    const { session_answered: known, session_cases: cases, answered, cases: all } = this.progress;
    return {
      session: Math.min(cases, known + queued), cases,
      whole: this.session?.practice ? answered : Math.min(all, answered + queued), all,
    };
  }
}
