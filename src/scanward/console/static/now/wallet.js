// The operator's key in this page: in memory alone once opened, forgotten when nobody touched the page for a while.
// What may stay in this browser is the file with its passphrase on it, under the name of the account.

import { KeyProblem, isEncrypted, open } from "./keys.js";

const IDLE = 30 * 60_000; // ms without a key or click after which the key is forgotten
const PLACE = "scanward-console-key:";

export class Wallet {
  #key = null;
  #touched = performance.now();
  #changed;

  /** `changed()` is called whenever the key is opened or forgotten. */
  constructor(account, changed) {
    this.place = PLACE + account;
    this.#changed = changed;
    setInterval(() => {
      if (this.#key && performance.now() - this.#touched > IDLE) this.forget();
    }, 10_000);
  }

  /** The key that signs; null while there is none. */
  get key() {
    return this.#key;
  }

  /** The file kept in this browser, "" for none. */
  get kept() {
    return localStorage.getItem(this.place) ?? "";
  }

  /** Somebody is here. */
  touch() {
    this.#touched = performance.now();
  }

  /** Open a key file. Kept in this browser only when it has a passphrase. @throws KeyProblem */
  async unlock(pem, passphrase, keep) {
    this.#key = await open(pem, passphrase);
    if (keep && isEncrypted(pem)) localStorage.setItem(this.place, pem);
    this.touch();
    this.#changed();
  }

  /** Forget the opened key. */
  forget() {
    this.#key = null;
    this.#changed();
  }

  /** Take the file out of this browser as well. */
  discard() {
    localStorage.removeItem(this.place);
    this.forget();
  }
}

/** The text of a chosen file. @throws KeyProblem */
export async function textOf(file) {
  if (!file) throw new KeyProblem("choose the file of your key");
  if (file.size > 65_536) throw new KeyProblem("this file is too long for a key");
  return file.text();
}
