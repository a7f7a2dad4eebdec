// Talking to the server. Every outcome that the page treats differently is an error class of its own.

/** No answer, or not from our server: no network, a sleeping server, a hotel's portal. Try again later. */
export class Offline extends Error {}
/** The session ended. Keep everything and sign in again. */
export class SignedOut extends Error {}
/** The server understood and said no; trying again will not help. `told` is its {error, what, where, todo}. */
export class Refused extends Error {
  constructor(status, told) {
    super(told?.error ?? told?.what ?? `the server answered ${status}`);
    this.status = status;
    this.told = told ?? {};
  }
}

const BASE = "/study/api/";
const PATIENCE = 20_000; // ms for an exchange of a few kB
const PICTURE_PATIENCE = 120_000; // ms for a picture of some 24 MB over a slow line
const AGAIN = new Set([408, 425, 429]); // statuses of 4xx that mean "later"

let csrf = document.querySelector('meta[name="csrf-token"]')?.content ?? "";

async function exchange(path, options, patience) {
  try {
    return await fetch(path, {
      cache: "no-store",
      credentials: "same-origin",
      redirect: "manual", // a redirect of an API call is a portal or a sign-in page, never an answer
      signal: AbortSignal.timeout(patience),
      ...options,
    });
  } catch (error) {
    throw new Offline(String(error?.message ?? error));
  }
}

let reader = null;

/** From now on calls are this reader's: what is to be sent is never sent as somebody else. */
export function callAs(name) {
  reader = name;
}

/** The anti-forgery token changes at sign-in, perhaps in another window: ask for ours. There somebody else may have
 * signed in; the server would refuse our answers for good, so for us that is being signed out. */
async function renewToken() {
  const answer = await exchange("/api/session", { headers: { Accept: "application/json" } }, PATIENCE);
  if (answer.status === 401) throw new SignedOut("signed out");
  const session = answer.ok ? await told(answer) : null;
  if (!session?.csrf_token) throw new Offline(`status ${answer.status}`);
  if (reader !== null && session.account !== reader) throw new SignedOut("somebody else signed in");
  csrf = session.csrf_token;
}

async function told(answer) {
  try {
    return await answer.json();
  } catch {
    return null;
  }
}

/** One call. @returns the JSON body. @throws Offline, SignedOut, Refused */
export async function call(method, path, body = undefined, again = true) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") {
    headers["X-CSRF-Token"] = csrf;
    headers["Content-Type"] = "application/json";
  }
  const answer = await exchange(
    BASE + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }, PATIENCE,
  );
  const content = await told(answer);
  if (answer.ok && content !== null) return content;
  if (answer.status === 401) throw new SignedOut("signed out");
  if (answer.status === 403 && again && method !== "GET") {
    await renewToken();
    return call(method, path, body, false);
  }
  if (answer.status >= 400 && answer.status < 500 && content !== null && !AGAIN.has(answer.status)) {
    throw new Refused(answer.status, content);
  }
  throw new Offline(`status ${answer.status}`);
}

/** The grey values of a case. @returns {Promise<Uint16Array>} */
export async function picture(item) {
  const answer = await exchange(item.url, {}, PICTURE_PATIENCE);
  if (answer.status === 401) throw new SignedOut("signed out");
  if (answer.status >= 400 && answer.status < 500 && !AGAIN.has(answer.status)) {
    throw new Refused(answer.status, await told(answer));
  }
  if (!answer.ok) throw new Offline(`status ${answer.status}`);
  let bytes;
  try {
    bytes = await answer.arrayBuffer();
  } catch (error) {
    throw new Offline(String(error?.message ?? error));
  }
  // a line that broke in the middle must not become a picture with a black half
  if (bytes.byteLength !== item.rows * item.columns * 2) throw new Offline("the picture came incomplete");
  return new Uint16Array(bytes); // little endian, as every machine that runs a browser today
}
