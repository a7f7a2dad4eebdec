// Acts: what is signed, byte for byte as guard/operators.py reads it, and the two calls that carry it to the guard.

import { call } from "./api.js";

const LABEL = "scanward operator act 1\0";
const DEFAULTS = { request: 0, shown: "", reason: "", minutes: 0, mode: "CLINICAL" };

/** The bytes that are signed: one JSON object in ASCII, keys in alphabetical order, no blanks. */
export function message(act, nonce, policy) {
  const text = JSON.stringify({
    act: act.act,
    minutes: act.minutes,
    mode: act.mode,
    nonce,
    operator: act.operator,
    policy,
    reason: act.reason,
    request: act.request,
    shown: act.shown,
  });
  const ascii = text.replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return new TextEncoder().encode(LABEL + ascii);
}

/** Sign an act and send it. `act` may leave out what it does not use.
 * @returns {Promise<{done: boolean, reason: string}>} the guard's answer. @throws what `call` throws */
export async function send(scanner, act, key) {
  const whole = { ...DEFAULTS, ...act };
  const ticket = await call("POST", `/api/scanners/${encodeURIComponent(scanner)}/tickets`, {});
  const bytes = message(whole, ticket.nonce, ticket.policy);
  const signature = new Uint8Array(await crypto.subtle.sign({ name: "Ed25519" }, key, bytes));
  return call("POST", `/api/scanners/${encodeURIComponent(scanner)}/acts`, {
    ticket: ticket.ticket,
    act: whole,
    signature: [...signature].map((b) => b.toString(16).padStart(2, "0")).join(""),
  });
}
