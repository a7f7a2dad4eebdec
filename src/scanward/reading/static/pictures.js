// Pictures in memory, fetched ahead of their turn; never stored.
import { picture } from "./api.js";

const MOST = 256 * 1024 * 1024; // bytes kept: some ten large mammograms

export class Pictures {
  constructor() {
    this.held = new Map(); // token -> {promise, bytes}; the oldest first
    this.queue = Promise.resolve();
  }

  /** The values of a case; asks the server at once when they are not here. @returns {Promise<Uint16Array>} */
  get(item) {
    const known = this.held.get(item.token);
    if (known) return known.promise;
    const promise = picture(item);
    this.held.set(item.token, { promise, bytes: item.rows * item.columns * 2 });
    promise.catch(() => this.held.delete(item.token)); // to be tried again, not remembered
    this.#trim(item.token);
    return promise;
  }

  /** Fetches what comes next, one after another, so that the first is not slowed by the third. */
  ahead(items) {
    for (const item of items) {
      this.queue = this.queue.then(() => this.get(item)).catch(() => {}); // told when its turn comes
    }
  }

  has(token) {
    return this.held.has(token);
  }

  #trim(wanted) {
    let sum = 0;
    for (const { bytes } of this.held.values()) sum += bytes;
    for (const [token, { bytes }] of this.held) {
      if (sum <= MOST) return;
      if (token === wanted) continue;
      this.held.delete(token);
      sum -= bytes;
    }
  }

  /** Forgets all but these, in the order given. */
  keepOnly(tokens) {
    const wanted = new Set(tokens);
    for (const token of [...this.held.keys()]) if (!wanted.has(token)) this.held.delete(token);
  }
}
