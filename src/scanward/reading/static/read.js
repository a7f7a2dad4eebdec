// The reading page: builds the room, wires keys and clicks, and lets the flow begin.
import { Acts } from "./acts.js";
import { call, Offline, Refused, SignedOut } from "./api.js";
import { Clock } from "./clock.js";
import { Flow } from "./flow.js";
import { digitOf, fillHelp, helpTable, keyName, typing } from "./keys.js";
import { Marks } from "./marks.js";
import { Overlay } from "./overlay.js";
import { digitsEnough, Panel } from "./panel.js";
import { Pictures } from "./pictures.js";
import { Screens } from "./screens.js";
import { openStore } from "./store.js";
import { Tools } from "./tools.js";
import { Viewer } from "./viewer.js";

const page = document.querySelector("#page");
const by = (id) => page.querySelector(`#${id}`);
const SINGLE_KEYS = "scanward-single-keys"; // localStorage: "off" where a reader turned them off (WCAG 2.1.4)
const SIGN_IN = "/sign-in?note=expired&next=/study/read";
const HOME = "/study/";

let flow = null;
let releaseLock = null;

function say(words) {
  by("status").textContent = words;
}

const screens = new Screens(page, (id) => {
  if (id === "go-on") flow.goOn();
  else if (id === "home") location.assign(HOME);
  else if (id === "here") takeOver();
  else if (id === "try") flow?.room ? flow.refresh() : begin();
  else if (id === "sign-in") {
    // with a store on disk this page may go; without, it must stay
    if (!flow || flow.store.durable) location.assign(SIGN_IN);
    else window.open(SIGN_IN, "_blank", "noopener");
  }
});

/** Everything that shows one case; what the flow asks of the page. */
function buildRoom(state) {
  const clock = new Clock();
  const acts = new Acts(clock);
  const numbers = (list) => list.map((value) => Math.round(value * 100) / 100).join("/");
  const viewer = new Viewer(by("picture"), (what) => {
    const values = {
      window: () => numbers(viewer.window),
      zoom: () => numbers([viewer.zoom]),
      pan: () => numbers(viewer.centre),
      invert: () => (viewer.invert ? "on" : "off"),
    };
    acts.view(what, values[what]());
    if (what === "window") flow.sketch(true);
  });
  const overlay = new Overlay(by("overlay"), viewer);
  const marks = new Marks(viewer, overlay, by("mark-list"), (what, place) => {
    acts.add(what, numbers(place));
    say(what === "mark" ? `Mark ${marks.places.length} set at ${numbers(place)}` : "Mark removed");
    flow.sketch();
  });
  const tools = new Tools({
    viewer, overlay, marks, allowMarks: state.settings.marks, page, say,
    did: (what, value) => acts.add(what, value),
  });
  const panel = new Panel(by("questions"), state.questions, state.settings, (question, rating, how) => {
    acts.add(question, `${rating} ${how}`);
    flow.sketch();
  });
  panel.enable(false);
  const room = { page, viewer, panel, marks, tools, screens, clock, acts, pictures: new Pictures(), say };
  room.said = () => ({
    ...panel.read(), marks: marks.places.map((place) => [...place]), window: [...viewer.window], ...clock.read(),
  });
  room.cleared = () => {
    clock.stop();
    delete viewer.canvas.dataset.token;
    viewer.clear();
    marks.show();
    panel.show();
    panel.enable(false);
  };
  room.begun = (item, values, said, revising) => {
    viewer.show({ ...item, values });
    tools.reset();
    panel.enable(true);
    panel.show(said?.ratings, said?.confidence ?? null);
    marks.show(said?.marks ?? []);
    // a draft goes on where it was; an answer looked at again begins like any case
    if (!revising) viewer.restore(said?.window);
    acts.start(revising ? [] : said?.acts);
    clock.away(document.hidden);
    clock.start(revising ? 0 : said?.seconds, revising ? 0 : said?.away);
    acts.add(revising ? "shown again" : "shown", `${viewer.canvas.width}x${viewer.canvas.height} ${viewer.ratio}`);
    viewer.canvas.dataset.token = item.token;
    viewer.canvas.focus({ preventScroll: true });
    const number = revising ? flow.course.place + 1 : flow.course.count(flow.queuedNew).session + 1;
    const words = `Case ${number} of ${flow.course.progress.session_cases}`;
    viewer.canvas.setAttribute("aria-label", `Picture, ${words}`);
    say(revising ? `${words}, seen before` : words);
    by("revising").hidden = !revising;
    by("leave").hidden = !revising;
  };
  room.differs = (answer) => {
    const { ratings, confidence } = panel.read();
    const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
    return Object.entries(ratings).some(([name, rating]) => answer.ratings[name] !== rating)
      || confidence !== (answer.confidence ?? null) || !same(marks.places, answer.marks ?? []);
  };
  room.missed = (question) => {
    say(`Not yet answered: ${question.text}`);
    panel.focus(question.identifier);
  };
  room.told = () => tell(state);
  return room;
}

/** Progress, and what became of the answers. */
function tell(state) {
  const { course, sender } = flow;
  if (!sender) return;
  const { session, cases, whole, all } = course.count(flow.queuedNew);
  by("session-name").textContent = course.session === null ? "" : course.session.practice
    ? "Practice" : `Session ${course.session.number} of ${course.session.of}`;
  by("practice").hidden = !course.session?.practice;
  by("progress").textContent = cases === 0 ? "" : course.session?.practice
    ? `${session} of ${cases} practice cases answered`
    : `${session} of ${cases} in this session, ${whole} of ${all} in all`;
  by("progress-bar").max = Math.max(1, cases);
  by("progress-bar").value = session;
  by("back").disabled = !course.canGoBack;
  by("waiting").dataset.waiting = String(sender.waiting);
  by("waiting").dataset.state = sender.waiting === 0 && sender.state === "sending" ? "saved" : sender.state;
  by("waiting-text").textContent = waitingWords(sender);
  by("fleeting").hidden = flow.store.durable;
  const refusals = sender.refusals.length;
  by("refused").hidden = refusals === 0;
  by("refused-text").textContent = refusals === 0 ? "" : `The server did not take ${refusals === 1 ? "one answer" : `${refusals} answers`}`
    + ` (${sender.refusals[refusals - 1].why.what ?? sender.refusals[refusals - 1].why.status}). Kept on this computer; please tell the study's lead.`;
  document.title = course.session === null ? state.study.title : `${session}/${cases} · ${state.study.title}`;
}

function waitingWords(sender) {
  if (sender.waiting === 0) return sender.state === "offline" ? "All answers saved; no connection now" : "All answers saved";
  const number = sender.waiting === 1 ? "1 answer" : `${sender.waiting} answers`;
  if (sender.state === "sending" || sender.state === "saved") return `Saving ${number} …`;
  return `${number} kept on this computer, waiting for the connection`;
}

// --- keys and clicks

function wire(state, room) {
  by("panel").addEventListener("submit", (event) => {
    event.preventDefault();
    flow.save();
  });
  const buttons = {
    back: () => flow.back(), leave: () => flow.leave(), pause: () => flow.pause(), help: () => help(state),
    "help-close": () => by("help-dialog").close(), "refused-save": saveRefused,
  };
  for (const [id, act] of Object.entries(buttons)) by(id).addEventListener("click", act);
  // A click on an answer gives the keys back to the picture: an arrow key must move the picture, not the answer.
  // It waits for the change, which comes after the click.
  by("questions").addEventListener("click", (event) => {
    if (event.detail > 0) setTimeout(() => room.viewer.canvas.focus({ preventScroll: true }));
  });
  by("single-keys").checked = singleKeys();
  by("single-keys").addEventListener("change", () => {
    try {
      localStorage.setItem(SINGLE_KEYS, by("single-keys").checked ? "on" : "off");
    } catch { /* a browser that keeps nothing: the choice holds for this page */ }
  });
  document.addEventListener("keydown", (event) => onKey(event, state));
}

function singleKeys() {
  try {
    return localStorage.getItem(SINGLE_KEYS) !== "off";
  } catch {
    return true;
  }
}

function help(state) {
  fillHelp(by("help-keys"), helpTable(state.questions, state.settings));
  by("help-dialog").showModal();
}

function saveRefused() {
  const text = JSON.stringify(flow.sender.refusals, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "scanward-refused-answers.json";
  link.click();
  URL.revokeObjectURL(link.href);
}

function onKey(event, state) {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (by("help-dialog").open || screens.view !== "case") {
    if (by("help-dialog").open && event.key === "?") by("help-dialog").close();
    return;
  }
  const { target } = event;
  const key = keyName(event);
  if (typing(target)) {
    if (key === "Escape" || key === "Enter") {
      event.preventDefault();
      flow.room.viewer.canvas.focus({ preventScroll: true }); // leaving the field applies what was typed
    }
    return;
  }
  if (act(event, key, target, state)) event.preventDefault();
}

/** @returns {boolean} whether the key was ours */
function act(event, key, target, state) {
  const { room } = flow;
  const button = target.closest?.("button, a, summary");
  if (key === "Enter") {
    if (button) return false; // it presses what has the focus
    if (!event.repeat) flow.save();
    return true;
  }
  if (key === "Space" && (button || target.type === "radio")) return false;
  if (key.startsWith("Arrow")) return target.type === "radio" ? false : room.tools.key(key, event);
  const single = by("single-keys").checked;
  if (!single && !["Space", "Escape", "Delete"].includes(key)) return false;
  const digit = digitOf(event);
  if (digit && rate(digit, state)) return true;
  if (room.tools.key(key, event)) return true;
  const commands = {
    b: () => flow.back(), Backspace: () => flow.back(), n: () => flow.leave(), p: () => flow.pause(),
    "?": () => help(state), q: () => room.panel.focusNext(),
    c: () => state.settings.confidence && room.panel.focus("confidence"),
  };
  if (!Object.hasOwn(commands, key) || event.repeat) return false;
  commands[key]();
  return true;
}

/** Digits: a third question and confidence take them while they have the focus; else 1 to 5 answer the first question,
 * 6 to 0 or Shift the second. @returns {boolean} whether a question took it */
function rate({ digit, shift }, state) {
  const { panel, viewer } = flow.room;
  const rating = digit === 0 ? 10 : digit;
  const focused = panel.focused;
  if (focused && (focused.index > 1 || focused.question.identifier === "confidence")) {
    const taken = panel.rate(focused.question.identifier, rating);
    if (taken) viewer.canvas.focus({ preventScroll: true }); // the next digit is for the first question again
    return taken;
  }
  const [first, second] = state.questions;
  if (!shift && rating <= first.labels.length) return panel.rate(first.identifier, rating);
  if (!second) return false;
  if (shift) return panel.rate(second.identifier, rating);
  return rating > 5 && digitsEnough(state.questions) && panel.rate(second.identifier, rating - 5);
}

// --- the beginning

/** One window at a time reads: two would answer the same cases. @returns whether this one may */
async function lock(owner, steal = false) {
  if (!navigator.locks) return true; // a page over plain HTTP: the server keeps both answers and tells
  return new Promise((resolve) => {
    const options = steal ? { steal: true } : { ifAvailable: true };
    navigator.locks.request(`scanward-study/${owner}`, options, (held) => {
      resolve(held !== null);
      return held === null ? undefined : new Promise((release) => { releaseLock = release; });
    }).catch(() => {
      // another window took over
      flow?.sketch();
      flow?.sender?.stop();
      flow?.room?.clock.away(true);
      screens.show("elsewhere");
    });
  });
}

let first = null; // the server's first word, while another window reads

async function takeOver() {
  releaseLock?.();
  if (flow?.room) {
    location.reload(); // this page stopped; what it knew may be old
    return;
  }
  await lock(ownerOf(first), true);
  await enter(await call("GET", "state").catch(() => first));
}

const ownerOf = (state) => `${state.study.sha256}/${state.reader}`;

async function enter(state) {
  const room = buildRoom(state);
  wire(state, room);
  const others = await flow.store.others(ownerOf(state)).catch(() => 0);
  if (others > 0) say(`${others} answers of another reader wait in this browser, until he or she signs in here.`);
  await flow.begin(state, room);
}

let wait = 1000;

async function begin() {
  flow ??= new Flow(await openStore());
  if (flow.room) return;
  try {
    const state = await call("GET", "state");
    first = state;
    if (await lock(ownerOf(state))) await enter(state);
    else screens.show("elsewhere");
  } catch (error) {
    const facts = { waiting: null, durable: true };
    if (error instanceof SignedOut) screens.show("signed-out", facts);
    else if (error instanceof Refused) screens.show("error", { what: error.message, todo: error.told.todo ?? "" });
    else if (error instanceof Offline) {
      screens.show("offline", facts);
      setTimeout(begin, wait);
      wait = Math.min(30_000, wait * 2);
    } else throw error;
  }
}

document.addEventListener("visibilitychange", () => {
  const room = flow?.room;
  if (!room) return;
  if (screens.view === "case") {
    room.clock.away(document.hidden);
    room.acts.add(document.hidden ? "hidden" : "in view", "");
    flow.sketch();
  }
  if (!document.hidden && screens.view === "signed-out") flow.refresh();
});
window.addEventListener("pagehide", () => flow?.room && flow.sketch());
window.addEventListener("beforeunload", (event) => {
  // answers on the disk of this computer need no warning
  if (flow?.sender?.waiting > 0 && !flow.store.durable) event.preventDefault();
});

/** What the view is, for tests and the curious; nobody reads it here. */
Object.defineProperty(window, "__view", {
  get() {
    const viewer = flow?.room?.viewer;
    if (!viewer) return null;
    return Object.freeze({
      token: viewer.canvas.dataset.token ?? null, window: [...viewer.window], zoom: viewer.zoom, pan: [...viewer.centre],
      origin: viewer.origin, invert: viewer.invert, marks: flow.room.marks.places.map((place) => [...place]),
      cursor: flow.room.tools.overlay.cursor, magnifier: flow.room.tools.overlay.lens, ms: viewer.spent,
    });
  },
});

begin();
