// Talking to the console. What the page treats differently is an error class of its own.

/** No answer, or none of ours. */
export class Offline extends Error {}
/** The sign-in ended. */
export class SignedOut extends Error {}
/** The console understood and said no. */
export class Refused extends Error {
  constructor(status, told) {
    const todo = told?.todo ? ` (${told.todo})` : "";
    super(`${told?.what || told?.error || `status ${status}`}${todo}`);
    this.status = status;
  }
}

const PATIENCE = 15_000; // ms: longer than the console waits for a guard
let csrf = document.querySelector('meta[name="csrf-token"]')?.content ?? "";

/** One call. @returns the JSON body. @throws Offline, SignedOut, Refused */
export async function call(method, path, body = undefined) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") {
    headers["X-CSRF-Token"] = csrf;
    headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      redirect: "manual",
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch (error) {
    throw new Offline(`the console does not answer (${error?.message ?? error})`);
  }
  const told = await answer.json().catch(() => null);
  if (answer.ok && told !== null) return told;
  if (answer.status === 401) throw new SignedOut("you are signed out");
  if (told !== null) throw new Refused(answer.status, told);
  throw new Offline(`the console answered with status ${answer.status}`);
}

/** Tell the console that somebody is here, since watching alone keeps no sign-in alive. */
export async function stay() {
  const session = await call("GET", "/api/session");
  if (session.csrf_token) csrf = session.csrf_token;
}
