// Brings what was kept to the server: one thing at a time, in order, until each is acknowledged.
import { call, Offline, Refused, SignedOut } from "./api.js";

const FIRST_WAIT = 1000; // ms before the first repetition; doubled each time
const LAST_WAIT = 30_000;

/** `told(sender)` is called whenever `waiting`, `state` or `refusals` changed; `acknowledged(answer, reply)` when the
 * server has an answer, `refused(answer)` when it will never take it. `state`: sending, saved, offline, signed out, stopped. */
export class Sender {
  constructor(store, owner, { told = () => {}, acknowledged = () => {}, refused = () => {} } = {}) {
    this.store = store;
    this.owner = owner;
    this.told = told;
    this.acknowledged = acknowledged;
    this.refused = refused;
    this.queue = []; // answers not acknowledged, oldest first: what the store holds
    this.refusals = [];
    this.draft = null; // {token, draft}: only the newest matters
    this.pause = null; // true or false, when to be told
    this.state = "saved";
    this.wait = FIRST_WAIT;
    this.timer = null;
    this.busy = false;
    window.addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.hurry();
    });
  }

  async begin() {
    this.queue = (await this.store.waiting(this.owner)).map((record) => record.answer);
    this.refusals = await this.store.refused(this.owner);
    this.told(this);
    this.hurry();
  }

  /** Answers without acknowledgement. */
  get waiting() {
    return this.queue.length;
  }

  /** Keeps an answer (resolved when it is durable here), then sends it. */
  async answer(answer) {
    await this.store.keep(this.owner, answer);
    this.queue.push(answer);
    if (this.draft?.token === answer.token) this.draft = null;
    this.told(this);
    this.hurry();
  }

  /** Keeps a draft here, with the acts that led to it, and sends the newest one without them. */
  async sketch(token, draft, acts) {
    this.draft = { token, draft };
    this.hurry();
    await this.store.keepDraft(this.owner, token, { ...draft, acts });
  }

  tellPause(paused) {
    this.pause = paused;
    this.hurry();
  }

  /** Tries now: something new, or the network came back. */
  hurry() {
    if (this.state === "stopped" || this.state === "signed out") return;
    clearTimeout(this.timer);
    this.timer = null;
    this.#run();
  }

  /** After signing in again. */
  resume() {
    if (this.state === "signed out") this.#become("sending");
    this.hurry();
  }

  /** Sends nothing any more: another window took over, or another reader signed in. */
  stop() {
    clearTimeout(this.timer);
    this.#become("stopped");
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.told(this);
  }

  async #run() {
    if (this.busy) return; // the running one sees what is new
    this.busy = true;
    try {
      while (this.state !== "stopped" && (await this.#one()));
      this.wait = FIRST_WAIT;
      if (this.state !== "stopped") this.#become("saved");
    } catch (error) {
      if (error instanceof SignedOut) this.#become("signed out");
      else if (error instanceof Offline) this.#later();
      else throw error;
    } finally {
      this.busy = false;
    }
    // what came between the last look and here
    if (this.state === "saved" && (this.queue.length > 0 || this.draft || this.pause !== null)) this.#run();
  }

  #later() {
    this.#become("offline");
    // a spread, lest all readers of a server that came back call in the same second
    this.timer = setTimeout(() => this.#run(), this.wait * (0.75 + Math.random() / 2));
    this.wait = Math.min(LAST_WAIT, this.wait * 2);
  }

  /** Sends one thing. @returns {Promise<boolean>} whether there was one */
  async #one() {
    if (this.queue.length > 0) {
      if (this.state !== "offline") this.#become("sending");
      await this.#answer(this.queue[0]);
      return true;
    }
    if (this.draft) {
      const { token, draft } = this.draft;
      try {
        await call("PUT", `drafts/${token}`, draft);
      } catch (error) {
        if (!(error instanceof Refused)) throw error; // refused: the case is answered; the draft is kept here
      }
      if (this.draft?.draft === draft) this.draft = null;
      return true;
    }
    if (this.pause !== null) {
      const paused = this.pause;
      try {
        await call("POST", "pause", { paused });
      } catch (error) {
        if (!(error instanceof Refused)) throw error; // a courtesy to the lead, no part of the data
      }
      if (this.pause === paused) this.pause = null;
      return true;
    }
    return false;
  }

  async #answer(answer) {
    let reply;
    try {
      reply = await call("PUT", `answers/${answer.identifier}`, answer);
      if (reply.saved !== true) throw new Offline("not saved");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      const why = { status: error.status, ...error.told };
      await this.store.refuse(this.owner, answer, why);
      this.refusals.push({ answer, why });
      this.queue.shift();
      this.refused(answer);
      this.told(this);
      return;
    }
    await this.store.acknowledge(answer.identifier);
    this.queue.shift();
    this.acknowledged(answer, reply);
    this.told(this);
  }
}
