// The stream of states. The page counts by the console's clock, and says so when it hears nothing.

import { SignedOut, stay } from "./api.js";

const AGAIN = 3_000; // ms between two tries where a browser gives up by itself: any answer but a stream
const SILENT = 5_000; // ms without a word of the console after which the page says so

/** Follow the console.
 * @param on {scanner(state), alive(boolean), ended()}
 * @returns {{now: function(): number}} the console's clock, in seconds since 1970 */
export function follow(on) {
  let source;
  let over = false;
  let tried = 0;
  let heard = performance.now();
  let alive = true;
  let offset = 0; // s that the console's clock is ahead of ours
  const word = () => {
    heard = performance.now();
    if (!alive) on.alive((alive = true));
  };
  const end = () => {
    over = true;
    source.close();
    on.ended();
  };
  const open = () => {
    source = new EventSource("/api/events");
    tried = performance.now();
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
      if (why === "signed out") end();
    });
  };
  // Too many pages, a proxy in front of a console that is being started: neither ends what an operator looks at.
  const again = async () => {
    tried = performance.now();
    try {
      await stay();
      open();
    } catch (error) {
      if (error instanceof SignedOut) end();
    }
  };
  open();
  setInterval(() => {
    if (alive && performance.now() - heard > SILENT) on.alive((alive = false));
    if (!over && source.readyState === EventSource.CLOSED && performance.now() - tried > AGAIN) again();
  }, 500);
  return { now: () => Date.now() / 1000 + offset };
}
