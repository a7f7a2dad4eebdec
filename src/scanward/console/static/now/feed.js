// The stream of states. The page counts by the console's clock, and says so when it hears nothing.

const SILENT = 5_000; // ms without a word of the console after which the page says so

/** Follow the console.
 * @param on {scanner(state), alive(boolean), ended(why)}
 * @returns {{now: function(): number}} the console's clock, in seconds since 1970 */
export function follow(on) {
  const source = new EventSource("/api/events");
  let heard = performance.now();
  let alive = true;
  let offset = 0; // s that the console's clock is ahead of ours
  const word = () => {
    heard = performance.now();
    if (!alive) on.alive((alive = true));
  };
  source.addEventListener("scanner", (event) => {
    word();
    on.scanner(JSON.parse(event.data));
  });
  source.addEventListener("clock", (event) => {
    word();
    offset = JSON.parse(event.data).now - Date.now() / 1000;
  });
  source.addEventListener("end", (event) => {
    const { why } = JSON.parse(event.data);
    if (why === "signed out") {
      source.close();
      on.ended(why);
    }
  });
  setInterval(() => {
    if (alive && performance.now() - heard > SILENT) on.alive((alive = false));
    if (source.readyState === EventSource.CLOSED) on.ended("closed");
  }, 500);
  return { now: () => Date.now() / 1000 + offset };
}
