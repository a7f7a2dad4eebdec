// The lead's overview keeps itself up to date: progress and times alone, as the server gives them.
import { localTimes } from "./home.js";

const EVERY = 15_000; // ms
const part = document.querySelector("#overview");
const live = document.querySelector("#live");
const told = document.querySelector("#live-text");

async function renew() {
  if (!live.checked || document.hidden) return;
  let page;
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", redirect: "error", signal: AbortSignal.timeout(10_000) });
    if (!answer.ok) throw new Error(String(answer.status));
    page = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    told.textContent = "The server does not answer, or you are signed out; these figures may be old.";
    return;
  }
  const fresh = page.querySelector("#overview");
  if (!fresh || part.contains(document.activeElement)) return; // never under somebody's hands
  localTimes(fresh);
  part.replaceChildren(...fresh.childNodes);
  told.textContent = "";
}

setInterval(renew, EVERY);
document.addEventListener("visibilitychange", renew);
