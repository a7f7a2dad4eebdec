// The sound of a hold: two tones, again every four seconds while nobody decided. Off until somebody touched the page,
// since browsers allow none before; the page shows whether it is on.

let context = null;
let muted = localStorage.getItem("scanward-console-muted") === "yes";
let calling = 0;
const told = new Set();

/** Call `listener(on)` whenever sound goes on or off. */
export function onChange(listener) {
  told.add(listener);
  listener(isOn());
}

/** Whether a hold would be heard. */
export const isOn = () => !muted && context !== null && context.state === "running";

const tell = () => told.forEach((listener) => listener(isOn()));

/** After somebody's first key or click. */
export async function allow() {
  if (context === null) {
    context = new AudioContext();
    context.addEventListener("statechange", tell);
  }
  await context.resume().catch(() => {});
  tell();
}

/** Sound off, or on again. */
export async function toggle() {
  muted = isOn();
  localStorage.setItem("scanward-console-muted", muted ? "yes" : "no");
  if (!muted) await allow();
  tell();
}

/** Call for attention until `rest`. */
export function call() {
  if (calling) return;
  tones();
  calling = setInterval(tones, 4_000);
}

/** Nothing is on hold any more. */
export function rest() {
  clearInterval(calling);
  calling = 0;
}

function tones() {
  if (!isOn()) return;
  [[880, 0], [660, 0.25]].forEach(([pitch, later]) => {
    const tone = context.createOscillator();
    const volume = context.createGain();
    const at = context.currentTime + later;
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0.0001, at);
    volume.gain.exponentialRampToValueAtTime(0.4, at + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.22);
    tone.connect(volume).connect(context.destination);
    tone.start(at);
    tone.stop(at + 0.25);
  });
}
