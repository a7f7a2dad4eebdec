// What a reader said, kept in this browser (IndexedDB) before anything is sent, so that a crash, a closed window or a
// lost network loses nothing. Records belong to an owner: one reader of one study.

const NAME = "scanward-study";
const VERSION = 1;

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function complete(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error ?? new Error("aborted"));
  });
}

function open() {
  return new Promise((resolve, reject) => {
    if (!globalThis.indexedDB) {
      reject(new Error("no IndexedDB"));
      return;
    }
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      const base = request.result;
      // `order` keeps the order of saving; the identifier of an answer counts once
      const answers = base.createObjectStore("answers", { keyPath: "order", autoIncrement: true });
      answers.createIndex("identifier", "identifier", { unique: true });
      base.createObjectStore("drafts", { keyPath: ["owner", "token"] });
      base.createObjectStore("refused", { keyPath: "identifier" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked"));
  });
}

/** Durable where the browser allows it. */
class Durable {
  constructor(base) {
    this.base = base;
    this.durable = true;
  }

  #begin(names, mode = "readonly") {
    // strict: on the disk, not in the operating system's hands, before we say "saved"
    return this.base.transaction(names, mode, mode === "readwrite" ? { durability: "strict" } : {});
  }

  /** Keeps an answer and forgets the draft it came from, both or neither. */
  async keep(owner, answer) {
    const transaction = this.#begin(["answers", "drafts"], "readwrite");
    transaction.objectStore("answers").add({ owner, identifier: answer.identifier, answer });
    transaction.objectStore("drafts").delete([owner, answer.token]);
    await complete(transaction);
  }

  async #all(name, owner) {
    const records = await done(this.#begin(name).objectStore(name).getAll());
    return records.filter((record) => record.owner === owner);
  }

  /** Answers not yet acknowledged, oldest first. */
  waiting(owner) {
    return this.#all("answers", owner);
  }

  refused(owner) {
    return this.#all("refused", owner);
  }

  /** How many answers of others (another reader, another study) wait in this browser. */
  async others(owner) {
    const records = await done(this.#begin("answers").objectStore("answers").getAll());
    return records.filter((record) => record.owner !== owner).length;
  }

  async #take(identifier, also = () => {}) {
    const transaction = this.#begin(["answers", "refused"], "readwrite");
    const answers = transaction.objectStore("answers");
    const key = answers.index("identifier").getKey(identifier);
    key.onsuccess = () => {
      if (key.result !== undefined) answers.delete(key.result);
    };
    also(transaction.objectStore("refused"));
    await complete(transaction);
  }

  acknowledge(identifier) {
    return this.#take(identifier);
  }

  refuse(owner, answer, why) {
    return this.#take(answer.identifier, (box) => box.put({ owner, identifier: answer.identifier, answer, why }));
  }

  async draft(owner, token) {
    return (await done(this.#begin("drafts").objectStore("drafts").get([owner, token])))?.draft ?? null;
  }

  async keepDraft(owner, token, draft) {
    const transaction = this.base.transaction("drafts", "readwrite");
    transaction.objectStore("drafts").put({ owner, token, draft });
    await complete(transaction);
  }
}

/** The same in memory alone: a private window, or a browser told to keep nothing. The page says so. */
export class Fleeting {
  constructor() {
    this.durable = false;
    this.answers = [];
    this.refusals = [];
    this.drafts = new Map();
  }

  async keep(owner, answer) {
    this.answers.push({ owner, identifier: answer.identifier, answer });
    this.drafts.delete(`${owner}/${answer.token}`);
  }

  async waiting(owner) {
    return this.answers.filter((record) => record.owner === owner);
  }

  async others() {
    return 0;
  }

  async refused(owner) {
    return this.refusals.filter((record) => record.owner === owner);
  }

  async acknowledge(identifier) {
    this.answers = this.answers.filter((record) => record.identifier !== identifier);
  }

  async refuse(owner, answer, why) {
    await this.acknowledge(answer.identifier);
    this.refusals.push({ owner, identifier: answer.identifier, answer, why });
  }

  async draft(owner, token) {
    return this.drafts.get(`${owner}/${token}`) ?? null;
  }

  async keepDraft(owner, token, draft) {
    this.drafts.set(`${owner}/${token}`, draft);
  }
}

/** The best store that this browser gives. */
export async function openStore() {
  try {
    return new Durable(await open());
  } catch {
    return new Fleeting();
  }
}
