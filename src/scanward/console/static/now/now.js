// The page Now: what each scanner's guard holds, and the operator's acts on it. State comes from the stream alone; an act
// changes nothing here before the guard says so.

import { Offline, Refused, SignedOut, call, stay } from "./api.js";
import { send } from "./acts.js";
import { dismiss, reason } from "./dialogs.js";
import { clock, el, visible } from "./dom.js";
import { follow } from "./feed.js";
import { everything, table, together } from "./hold.js";
import { KeyProblem, isEncrypted } from "./keys.js";
import { dose, news, person, warnings } from "./panels.js";
import * as sound from "./sound.js";
import { Wallet, textOf } from "./wallet.js";

const byId = (id) => document.getElementById(id);
const page = byId("now");
const units = JSON.parse(page.dataset.units);
const acting = page.dataset.acts === "yes";
const scanners = new Map(); // id -> state
const places = new Map(); // id -> {request, found}: where values lie among the site's own
let chosen = null;
let operator = page.dataset.account;
let underway = null; // the act that the guard is being asked about
let drawn = ""; // what the details on the page were made of: they are made anew only when that changes
let announced = "";
let stayed = performance.now();

const feed = follow({
  scanner(state) {
    const news = state.held && state.held.request !== scanners.get(state.id)?.held?.request;
    scanners.set(state.id, state);
    // A new hold comes to the front, unless another one is being decided; whoever went elsewhere is left there.
    const free = !scanners.get(chosen)?.held && !document.querySelector("dialog[open]");
    if (chosen === null || (news && free)) choose(state.id);
    else render();
  },
  alive(yes) {
    byId("alive").hidden = yes;
    render();
  },
  ended() {
    byId("ended").hidden = false;
    byId("ended-why").textContent = "You are signed out.";
    wallet?.forget();
  },
});

const wallet = acting ? new Wallet(page.dataset.account, showKey) : null;

// --- drawing

function choose(id) {
  if (chosen !== id) dismiss();
  chosen = id;
  drawn = "";
  render();
}

function put(id, children) {
  byId(id).replaceChildren(...[children].flat().filter(Boolean));
}

function render() {
  tabs();
  [...scanners.values()].some((one) => one.held) ? sound.call() : sound.rest();
  const state = scanners.get(chosen);
  if (!state) return;
  try {
    draw(state);
  } catch (error) {
    console.error(error);
    unreadable(state);
  }
}

/** A guard that says what cannot be drawn: nothing of an earlier hold stays in its place, and nothing is released. */
function unreadable(state) {
  drawn = "";
  dismiss();
  put("warnings", [el("p", { class: "problem" }, `■ What the guard of ${state.name} says cannot be shown here. Decide at the guard's own terminal.`)]);
  for (const id of ["person", "dose", "news", "reason-shown", "hold-notes", "objections", "everything"]) put(id, []);
  byId("release").disabled = true;
}

function draw(state) {
  const held = state.held;
  count();
  put("warnings", warnings(state));
  put("person", person(state.examination, units));
  put("dose", dose(state.examination));
  put("news", news(state.events, feed.now()));
  byId("hold").hidden = !held;
  byId("everything-details").hidden = !held;
  byId("actions").hidden = !held || !acting;
  if (acting) byId("emergency").hidden = Boolean(state.emergency?.on);
  if (held) drawHold(state, held);
  else {
    drawn = "";
    dismiss();
  }
  say(state, held);
}

function drawHold(state, held) {
  const known = places.get(state.id);
  const found = known?.request === held.request ? known.found : null;
  const { until: _until, seconds_left: _left, ...rest } = held;
  const now = JSON.stringify([state.id, rest, found !== null]);
  if (now !== drawn) {
    const first = !drawn.startsWith(JSON.stringify([state.id]).slice(0, -1)) || held.request !== Number(byId("hold").dataset.request);
    if (first) dismiss();
    byId("hold").dataset.request = held.request;
    put("reason-shown", visible(held.reason, 600));
    put("objections", [table(held, units, found), el("p", { class: "together" }, together(held))]);
    put("everything", everything(held, units));
    drawn = now; // only what was drawn to its end need not be drawn again
    if (first) painted(state.id, held.request);
  }
  if (known?.request !== held.request) look(state.id, held.request);
  const released = held.released_by ?? [];
  const mine = released.some((one) => one.operator === operator);
  const notes = [];
  if (held.shown_ok === false) {
    notes.push(el("p", { class: "problem" }, "■ What this guard shows is not what it says it holds. Refuse it, and call whoever runs the guard."));
  }
  if (held.persons === 2) {
    const who = released.map((one) => visible(one.operator, 64)).join(", ");
    notes.push(el("p", { class: "notice two" }, released.length
      ? `Two persons have to release this. Released by ${who}; ${mine ? "somebody else has to release it as well" : "your release is the second"}.`
      : "Two persons have to release this: you and another operator, each with a key of their own."));
  }
  for (const who of held.called ?? []) notes.push(el("p", { class: "notice" }, `${visible(who, 64)} calls for a second person.`));
  put("hold-notes", notes);
  const can = acting && !underway && state.link !== "down";
  byId("release").disabled = !can || held.shown_ok === false || mine;
  byId("refuse").disabled = !acting || state.link === "down"; // it waits for what is under way
  byId("call").disabled = !can;
}

/** Marks when a hold stood on the screen: for whoever measures it. */
function painted(id, request) {
  requestAnimationFrame(() => requestAnimationFrame(() => {
    byId("hold").dataset.painted = `${id}/${request}/${Date.now()}`;
  }));
}

async function look(id, request) {
  places.set(id, { request, found: null });
  try {
    const told = await call("GET", `/api/scanners/${encodeURIComponent(id)}/places?request=${request}`);
    places.set(id, { request, found: told.places });
    render();
  } catch {
    // a picture less; nothing depends on it
  }
}

function tabs() {
  const list = byId("scanners");
  const states = [...scanners.values()];
  while (list.children.length < states.length) {
    const button = el("button", { type: "button", class: "tab" });
    button.addEventListener("click", () => choose(button.dataset.id));
    list.append(el("li", {}, button));
  }
  states.forEach((state, at) => {
    const button = list.children[at].firstChild;
    const held = state.held;
    button.dataset.id = state.id;
    button.setAttribute("aria-current", state.id === chosen ? "true" : "false");
    button.classList.toggle("holding", Boolean(held));
    const word = state.link === "up" ? (held ? `▲ HOLD ${clock(held.until - feed.now())}` : "● ready") : state.link === "silent" ? "◐ SILENT" : `✕ ${state.link}`;
    const text = `${visible(state.name, 60)}  ${word}`;
    if (button.textContent !== text) button.textContent = text;
  });
}

function count() {
  const state = scanners.get(chosen);
  const held = state?.held;
  const banner = byId("banner");
  banner.className = state.link !== "up" ? "lost" : held ? "holding" : "quiet";
  const word = held ? "▲ ON HOLD" : state.link === "up" ? "● Nothing on hold" : "✕ No word from the guard";
  if (byId("status").textContent !== word) byId("status").textContent = word;
  const left = held ? clock(held.until - feed.now()) : "";
  if (byId("countdown").textContent !== left) byId("countdown").textContent = left;
  byId("countdown-what").textContent = held ? "then it is refused" : modeOf(state);
  document.title = held ? `▲ HOLD ${left} ${state.name}` : `${state.name} - Scanward console`;
}

function modeOf(state) {
  const mode = state.gate?.mode ?? "";
  return mode && mode !== "CLINICAL" ? `▲ mode ${mode}` : "";
}

/** For those who do not see the page: once for each hold. */
function say(state, held) {
  const now = held ? `${state.id}/${held.request}` : "";
  if (now === announced) return;
  announced = now;
  byId("announce").textContent = held
    ? `Hold at ${state.name}: ${visible(held.reason, 300)}. Decide within ${Math.round(held.until - feed.now())} seconds.`
    : "Nothing is on hold.";
}

setInterval(() => {
  if (scanners.get(chosen)) {
    count();
    tabs();
  }
}, 250);

// --- acts

function answer(text, problem = false) {
  const place = byId("answer");
  place.className = problem ? "problem" : "note";
  place.textContent = text;
  place.hidden = !text;
}

/** Sign and send. What it is about was fixed when the operator was asked. */
async function act(id, what, done) {
  while (underway && what.act === "refuse") await underway; // a refusal is never lost to another act
  if (underway) return;
  if (!wallet.key) {
    answer("Open your key first: acts are signed with it.", true);
    byId("key-details").open = true;
    (wallet.kept ? byId("passphrase") : byId("key-file")).focus();
    return;
  }
  let ended;
  underway = new Promise((resolve) => { ended = resolve; });
  render();
  answer("The guard is asked …");
  try {
    const said = await send(id, { operator, ...what }, wallet.key);
    answer(said.done ? done : `The guard refused: ${said.reason}`, !said.done);
  } catch (error) {
    if (error instanceof SignedOut) byId("ended").hidden = false;
    answer(error instanceof Offline || error instanceof Refused || error instanceof SignedOut ? error.message : `Not sent: ${error.message}`, true);
  } finally {
    underway = null;
    ended();
    render();
  }
}

async function decide(kind) {
  const state = scanners.get(chosen);
  const held = state?.held;
  if (!held || byId(kind).disabled) return;
  const release = kind === "release";
  const second = held.persons === 2 && (held.released_by ?? []).length === 0;
  const text = await reason({
    title: `${release ? "Release" : "Refuse"} at ${state.name}`,
    text: release
      ? "RELEASE never means safe: it means that you take this decision. The reason is recorded as typed: do not name the patient."
      : "It will not reach the scanner. The reason is recorded as typed: do not name the patient.",
    needed: release,
    yes: release ? "Release" : "Refuse",
    about: "hold",
  });
  if (text === null) return;
  const now = scanners.get(state.id)?.held;
  if (!now || now.request !== held.request || now.digest !== held.digest) {
    answer("What was on hold is not on hold any more: nothing was sent.", true);
    return;
  }
  const done = !release ? "Refused." : second ? "Taken as the first of two releases: another operator has to release it." : "Released.";
  await act(state.id, { act: kind, request: held.request, shown: held.digest, reason: text }, done);
}

async function callSecond() {
  const state = scanners.get(chosen);
  const held = state?.held;
  if (!held || byId("call").disabled) return;
  await act(state.id, { act: "call", request: held.request, shown: held.digest }, "A second person is called for, on every screen.");
}

async function emergency() {
  const state = scanners.get(chosen);
  if (!state || byId("emergency").hidden) return;
  const text = await reason({
    title: `Emergency access at ${state.name}`,
    text: "What is loaded passes for some minutes, whatever is objected to; hardware and absolute dose caps still hold. It is recorded, shown to everybody and has to be explained, now or later.",
    needed: false,
    yes: "Begin emergency access",
  });
  if (text !== null) await act(state.id, { act: "emergency", reason: text }, "Emergency access is on.");
}

// --- the key

function showKey() {
  const open = Boolean(wallet.key);
  byId("key-state").textContent = open ? `● Your key is open: you act as ${operator}` : "○ Your key is not open: you can look, not decide";
  byId("key-details").open = !open;
  byId("key-form").hidden = open;
  byId("key-forget").hidden = !open;
  byId("key-kept").hidden = !wallet.kept;
  byId("key-file-row").hidden = Boolean(wallet.kept);
}

async function unlock(event) {
  event.preventDefault();
  const problem = byId("key-problem");
  problem.textContent = "";
  try {
    const pem = wallet.kept || (await textOf(byId("key-file").files[0]));
    await wallet.unlock(pem, byId("passphrase").value, byId("key-keep").checked);
    if (!isEncrypted(pem)) answer("Your key's file has no passphrase: whoever copies it can act as you. It is not kept in this browser.", true);
    else answer("");
    byId("main").focus();
  } catch (error) {
    problem.textContent = error instanceof KeyProblem ? error.message : `the key cannot be opened (${error.message})`;
  } finally {
    byId("passphrase").value = "";
  }
}

if (acting) {
  call("GET", "/api/operator").then((told) => {
    operator = told.operator;
    showKey();
  }, () => {});
  byId("key-form").addEventListener("submit", unlock);
  byId("key-forget").addEventListener("click", () => wallet.forget());
  byId("key-discard").addEventListener("click", () => wallet.discard());
  byId("release").addEventListener("click", () => decide("release"));
  byId("refuse").addEventListener("click", () => decide("refuse"));
  byId("call").addEventListener("click", callSecond);
  byId("emergency").addEventListener("click", emergency);
  showKey();
}

// --- keys, sound, presence

const KEYS = { r: () => decide("release"), n: () => decide("refuse"), c: callSecond, e: emergency, k: () => byId("passphrase").focus() };

document.addEventListener("keydown", (event) => {
  present();
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (document.querySelector("dialog[open]") || event.target.closest?.("input, select, textarea")) return;
  const key = event.key.toLowerCase();
  if (key === "?") byId("help").showModal();
  else if (key === "s") sound.toggle();
  else if (key === "arrowright" || key === "arrowleft") step(key === "arrowright" ? 1 : -1);
  else if (acting && KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
});
document.addEventListener("pointerdown", present);

function step(by) {
  const ids = [...scanners.keys()];
  if (ids.length > 1) choose(ids[(ids.indexOf(chosen) + by + ids.length) % ids.length]);
}

/** Somebody is here: sound may be heard, the key stays open, the sign-in lives. */
function present() {
  sound.allow();
  wallet?.touch();
  if (performance.now() - stayed > 60_000) {
    stayed = performance.now();
    stay().catch(() => {});
  }
}

byId("sound").addEventListener("click", () => sound.toggle());
byId("help-open").addEventListener("click", () => byId("help").showModal());
sound.onChange((on) => {
  byId("sound").setAttribute("aria-pressed", on ? "true" : "false");
  byId("sound").textContent = on ? "♪ Sound is on" : "✕ Sound is OFF";
});
