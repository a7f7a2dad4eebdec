// The flow of reading: state from the server, a case on the screen, its answer kept and sent, the next case.
//
// The order of things is what keeps answers safe: an answer is durable in this browser before the next case is shown;
// it leaves the browser's store only after the server has said that it is durable there.
import { call, callAs, Offline, Refused, SignedOut } from "./api.js";
import { Course } from "./course.js";
import { Sender } from "./sender.js";
import { Fleeting } from "./store.js";

const AHEAD = 3; // cases fetched before their turn
const SKETCH = 800; // ms after a change of the view until the draft is sent; clicks are sent at once
const BRIEFLY = 200; // ms
const FIRST_WAIT = 1000; // ms before asking again; doubled each time
const LAST_WAIT = 30_000;

/** A UUID 4. Without randomUUID (a page that was not loaded over HTTPS or from this computer) out of random bytes. */
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** `room` is what read.js built: {page, viewer, panel, marks, tools, screens, clock, acts, pictures, say, begun, told}. */
export class Flow {
  constructor(store) {
    this.store = store;
    this.course = new Course();
    this.room = null;
    this.state = null;
    this.sender = null;
    this.item = null; // the case on the screen
    this.before = null; // its answer, when it is looked at again
    this.sequence = 0;
    this.turn = 0; // grows with every case: what comes late for an older one is dropped
    this.saving = false;
    this.asking = false;
    this.sketching = null;
    this.retry = null;
    this.wait = FIRST_WAIT;
    window.addEventListener("online", () => this.again());
  }

  /** Begins with the server's first word; the room is made by then, from `state`. */
  async begin(state, room) {
    this.room = room;
    this.reader = state.reader;
    callAs(state.reader);
    this.owner = `${state.study.sha256}/${state.reader}`;
    this.sender = new Sender(this.store, this.owner, {
      told: () => this.#told(),
      acknowledged: (answer, reply) => this.#acknowledged(answer, reply),
      refused: (answer) => this.course.forget(answer),
    });
    if (state.paused) this.sender.tellPause(false); // who opens the page reads
    await this.sender.begin();
    this.#take(state);
    await this.#settle();
  }

  #take(state) {
    this.last = this.course.session; // the session before this word
    this.state = state;
    const other = this.course.take(state);
    this.course.know(this.sender.queue.filter((answer) => answer.revision === 0));
    return other;
  }

  /** Asks the server where we are, and goes there; patient when it does not answer. */
  async refresh() {
    if (this.sender.state === "stopped") return;
    if (this.asking) {
      this.again(BRIEFLY);
      return;
    }
    this.asking = true;
    clearTimeout(this.retry);
    try {
      const state = await call("GET", "state");
      if (this.#stranger(state)) return;
      this.sender.resume();
      const other = this.#take(state);
      await this.#settle(other);
    } catch (error) {
      this.#trouble(error);
    } finally {
      this.asking = false;
    }
  }

  #stranger(state) {
    if (state.reader === this.reader && `${state.study.sha256}/${state.reader}` === this.owner) return false;
    this.sender.stop();
    this.turn += 1;
    this.room.screens.show("other-reader", { ...this.facts(), other: state.reader });
    return true;
  }

  /** Shows what there is to do now. `other`: the session is another one than before. */
  async #settle(other = false) {
    const { session, waiting, finished } = this.state;
    const last = other ? this.last : null;
    if (finished) this.room.screens.show("finished");
    else if (waiting) this.room.screens.show("washout", { ...waiting, number: last?.number ?? null });
    else if (other && session) {
      this.room.screens.show("session-end", {
        practice: last.practice, number: last.number, next: session.number, cases: this.state.progress.session_cases,
      });
      this.room.pictures.ahead(this.course.coming.slice(0, AHEAD));
    } else if (this.course.current) await this.#present(this.course.current);
    else await this.#waitForEnd();
    if (finished || waiting) this.item = null;
    this.room.told();
  }

  /** Nothing more to read until the server knows what we know. */
  async #waitForEnd() {
    this.item = null;
    const offline = ["offline", "stopped"].includes(this.sender.state);
    this.room.screens.show(offline ? "offline" : "sending", this.facts());
    if (this.sender.waiting === 0) this.#later();
  }

  #later() {
    this.again(this.wait);
    this.wait = Math.min(LAST_WAIT, this.wait * 2);
  }

  /** New answers that wait and that the server's own progress does not count (it may have one whose receipt was lost). */
  get queuedNew() {
    return this.sender.queue.filter(({ revision, token }) => revision === 0 && !this.course.counted.has(token)).length;
  }

  facts() {
    return { waiting: this.sender?.waiting ?? 0, reader: this.reader, durable: this.store.durable };
  }

  #trouble(error) {
    if (error instanceof SignedOut) {
      this.room.screens.show("signed-out", this.facts());
    } else if (error instanceof Offline) {
      if (!["case", "paused"].includes(this.room.screens.view)) this.room.screens.show("offline", this.facts());
      this.#later();
    } else if (error instanceof Refused) {
      const { what, todo } = error.told;
      this.room.screens.show("error", { what: what ? `The server says: ${what}.` : error.message, todo: todo ?? "" });
    } else {
      throw error;
    }
  }

  /** Tries again, now or in a while, if something is waited for. */
  again(after = 0) {
    clearTimeout(this.retry);
    const waited = ["offline", "sending", "signed-out", "error", "loading"];
    if (!this.room || !waited.includes(this.room.screens.view)) return;
    this.retry = setTimeout(() => this.refresh(), after);
  }

  // --- a case on the screen

  async #present(item, before = null) {
    const turn = (this.turn += 1);
    const { room } = this;
    room.screens.show("loading");
    room.cleared();
    let values;
    let draft = null;
    try {
      values = await room.pictures.get(item);
      draft = before ? null : await this.#draft(item.token);
    } catch (error) {
      if (turn === this.turn) this.#trouble(error);
      return;
    }
    if (turn !== this.turn) return;
    this.wait = FIRST_WAIT;
    this.item = item;
    this.before = before;
    this.sequence = draft?.sequence ?? 0;
    room.begun(item, values, draft ?? before, before !== null);
    room.screens.show("case");
    room.told();
    this.#ahead();
  }

  /** The newer of the two drafts: this computer's and the server's. */
  async #draft(token) {
    const here = await this.store.draft(this.owner, token).catch(() => null);
    const there = this.state.case?.token === token ? this.state.draft : null;
    if (!here || !there) return here ?? there;
    return there.sequence > here.sequence ? there : here;
  }

  #ahead() {
    const { course, room } = this;
    const coming = course.coming.slice(0, AHEAD + 1);
    room.pictures.keepOnly([...course.answered.slice(-2), ...coming.map((one) => one.token), this.item?.token]);
    room.pictures.ahead(coming.slice(1));
  }

  /** What was clicked so far, kept here and sent. `soon`: with others that follow at once. */
  sketch(soon = false) {
    clearTimeout(this.sketching);
    if (!this.item || this.before || this.room.screens.view !== "case") return;
    if (soon) {
      this.sketching = setTimeout(() => this.sketch(), SKETCH);
      return;
    }
    this.sequence += 1;
    const draft = { ...this.room.said(), sequence: this.sequence };
    // a draft that cannot be kept is no harm yet; an answer that cannot is told, below
    this.sender.sketch(this.item.token, draft, this.room.acts.list).catch(() => {});
  }

  /** Keeps the answer, then shows the next case. */
  async save() {
    if (this.saving || !this.item || this.room.screens.view !== "case") return;
    const open = this.room.panel.missing();
    if (open) {
      this.room.missed(open);
      return;
    }
    this.saving = true;
    clearTimeout(this.sketching);
    try {
      if (this.before && !this.room.differs(this.before)) {
        this.course.own.set(this.item.token, { item: this.item, answer: this.before });
        this.course.forward();
      } else {
        await this.#keep();
      }
    } finally {
      this.saving = false;
    }
    await this.#onward();
  }

  async #keep() {
    const { item } = this;
    this.room.acts.add("save", "");
    const answer = {
      identifier: uuid(), token: item.token, revision: item.revision, ...this.room.said(), acts: this.room.acts.list,
    };
    try {
      await this.sender.answer(answer);
    } catch {
      // the disk is full or was taken away: go on in memory, and say so
      this.store = new Fleeting();
      this.sender.store = this.store;
      await this.sender.answer(answer);
      this.room.told();
    }
    this.course.give({ ...item, revision: item.revision + 1 }, answer);
    this.room.say(this.before ? "Answer changed." : "");
  }

  async #onward() {
    const again = this.course.revising;
    if (again) await this.#revisit(again);
    else if (this.course.current) await this.#present(this.course.current);
    else await this.#settle();
  }

  // --- going back

  async back() {
    if (this.saving || !this.state?.settings.go_back || this.room.screens.view !== "case") return;
    this.sketch(); // what was begun here is not lost
    const place = this.course.place;
    const token = this.course.back();
    if (!token) {
      this.room.say("This is the first case of the session that can be seen again.");
      return;
    }
    if (!(await this.#revisit(token))) {
      this.course.place = place;
      await this.#onward();
    }
  }

  /** Leaves the answer looked at as it was, and returns to the case to be read. */
  async leave() {
    if (!this.before || this.room.screens.view !== "case") return;
    this.course.leave();
    await this.#onward();
  }

  async #revisit(token) {
    let known = this.course.own.get(token);
    if (!known) {
      // from an earlier visit: answers not yet sent first, else the server would tell an older one
      const queued = this.sender.queue.filter((answer) => answer.token === token).pop();
      try {
        const told = await call("GET", `cases/${token}`);
        const answer = queued ?? told.answer;
        const revision = queued ? queued.revision + 1 : told.case.revision;
        known = { item: { ...told.case, revision }, answer };
      } catch (error) {
        if (error instanceof SignedOut) {
          this.#trouble(error);
          return true;
        }
        this.room.say("That case cannot be fetched now. Go on, and come back to it when the connection is back.");
        return false;
      }
    }
    await this.#present(known.item, known.answer ?? { ratings: {} });
    return true;
  }

  // --- pause

  pause() {
    if (this.room.screens.view !== "case") return;
    this.room.acts.add("pause", "");
    this.sketch();
    this.room.clock.away(true);
    this.sender.tellPause(true);
    this.room.screens.show("paused");
  }

  goOn() {
    if (this.room.screens.view === "paused") {
      this.room.clock.away(document.hidden);
      this.room.acts.add("resume", "");
      this.sender.tellPause(false);
      this.room.screens.show("case");
      this.room.viewer.canvas.focus({ preventScroll: true });
    } else if (this.course.current) {
      this.#present(this.course.current);
    }
  }

  // --- what the sender tells

  #told() {
    const { sender, room } = this;
    if (!room) return;
    room.told();
    if (sender.state === "signed out") {
      if (room.screens.view === "case") this.sketch();
      room.clock.away(true);
      room.screens.show("signed-out", this.facts());
    } else if (["sending", "offline"].includes(room.screens.view)) {
      if (sender.state === "saved" && sender.waiting === 0) this.again(BRIEFLY / 4);
      else room.screens.show(sender.state === "offline" ? "offline" : room.screens.view, this.facts());
    }
  }

  #acknowledged(answer, reply) {
    const { course } = this;
    if (reply.conflict) this.room.say("This case was already answered on another computer; that answer counts.");
    if (course.coming.length > 0) course.progress = reply.progress;
    const rest = course.progress.session_cases - course.progress.session_answered;
    if (course.coming.length <= AHEAD && course.coming.length < rest) this.#topUp();
  }

  /** Learns of the cases after those it knows, while the reader reads. */
  async #topUp() {
    if (this.asking) return;
    this.asking = true;
    try {
      const state = await call("GET", "state");
      if (this.#stranger(state)) return;
      // a session that ended in the meantime is the business of settle, after its last case
      if (state.session?.number !== this.course.session?.number) return;
      const { item } = this;
      this.#take(state);
      if (this.item === item) this.#ahead();
      this.room.told();
    } catch (error) {
      if (!(error instanceof Offline || error instanceof SignedOut || error instanceof Refused)) throw error;
    } finally {
      this.asking = false;
    }
  }
}
