// What stands in front of the picture when there is none to read: pause, end of a session, washout, trouble. Plain words.

const FORMAT = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "short" });

function plural(number, one, many) {
  return number === 1 ? `1 ${one}` : `${number} ${many}`;
}

const KEPT = (waiting) => (waiting === null
  ? "What you have answered is kept."
  : waiting === 0
    ? "All your answers are saved."
    : `${plural(waiting, "answer is", "answers are")} kept on this computer and will be sent.`);

/** Words of each screen: (facts) -> {title, text: [...], acts: [[id, words]]}. The first act has the focus. */
const WORDS = {
  paused: () => ({ title: "Paused", text: ["Your clicks are kept. Take your time."], acts: [["go-on", "Go on reading"]] }),
  "session-end": ({ practice, number, next, cases }) => ({
    title: practice ? "Practice is over" : `Session ${number} is complete`,
    text: [
      practice ? "What follows counts." : "Thank you. All its answers are saved.",
      `Session ${next} has ${plural(cases, "case", "cases")}. You can pause at any time, and go on at another computer.`,
    ],
    acts: [["go-on", `Begin session ${next}`]],
  }),
  washout: ({ number, until, why }) => ({
    title: number === null ? "No session is open" : `Session ${number} is complete`,
    text: [`The next session opens on ${FORMAT.format(new Date(until))}.`, why, "All your answers are saved."],
    acts: [["home", "To the overview"]],
  }),
  finished: () => ({
    title: "You have read all cases",
    text: ["Thank you. All your answers are saved; you can close this page."],
    acts: [["home", "To the overview"]],
  }),
  sending: ({ waiting }) => ({
    title: "Sending the last answers …",
    text: [KEPT(waiting)],
  }),
  offline: ({ waiting }) => ({
    title: "No connection to the study's server",
    text: [
      KEPT(waiting),
      "Reading goes on by itself as soon as the connection is back. You may leave this page open, or close it and come "
      + "back later on this computer.",
    ],
    acts: [["try", "Try now"]],
  }),
  "signed-out": ({ waiting, reader, durable }) => ({
    title: "You were signed out",
    text: [
      `After a while without use you are signed out. ${KEPT(waiting)}`,
      `Sign in again as ${reader ?? "the same reader"}; you will be where you were.`
      + (durable ? "" : " Use the new window that opens, and leave this page open: this browser keeps nothing on disk."),
    ],
    acts: [["sign-in", "Sign in"], ["try", "I have signed in in another window"]],
  }),
  "other-reader": ({ waiting, reader, other }) => ({
    title: `Signed in as ${other}`,
    text: [
      `This page belongs to ${reader}. ${waiting === 0 ? "" : KEPT(waiting)}`,
      `To read as ${other}, open the study anew. What ${reader} has answered is sent when ${reader} signs in here.`,
    ],
    acts: [["home", "To the overview"]],
  }),
  elsewhere: () => ({
    title: "The study is open in another window",
    text: ["Go on there, or read here instead: the other window then stops. Nothing is lost."],
    acts: [["here", "Read here"]],
  }),
  error: ({ what, todo }) => ({
    title: "This case cannot be shown",
    text: [what, todo, "Your answers are kept."],
    acts: [["try", "Try again"], ["home", "To the overview"]],
  }),
};

/** The one screen, over the whole room. `act(id)` is called for its buttons. */
export class Screens {
  constructor(page, act) {
    this.page = page;
    this.root = page.querySelector("#screen");
    this.behind = [...page.querySelectorAll(".light-box, .panel")];
    this.root.addEventListener("click", (event) => {
      const button = event.target.closest("button[id]");
      if (button) act(button.id);
    });
    this.view = "loading";
    this.told = "";
  }

  /** Shows the screen of a view, or, for "case" and "loading", the room itself. */
  show(view, facts = {}) {
    const before = this.view;
    this.view = view;
    this.page.dataset.view = view;
    const hidden = view === "case" || view === "loading"; // a picture on its way is no news: the room stays as it is
    // nothing behind a screen takes the focus, nor is it read aloud
    for (const part of this.behind) part.inert = !hidden;
    this.root.hidden = hidden;
    if (hidden) {
      this.told = "";
      return;
    }
    const { title, text, acts = [] } = WORDS[view](facts);
    const told = JSON.stringify([title, text, acts]);
    if (told === this.told && before === view) return; // the same words: leave the focus alone
    this.told = told;
    this.root.querySelector("#screen-title").textContent = title;
    this.root.querySelector("#screen-text").replaceChildren(...text.filter(Boolean).map((words) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = words;
      return paragraph;
    }));
    const buttons = acts.map(([id, words], index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.id = id;
      button.className = index === 0 ? "primary" : "";
      button.textContent = words;
      return button;
    });
    this.root.querySelector("#screen-acts").replaceChildren(...buttons);
    (buttons[0] ?? this.root.querySelector("#screen-title")).focus();
  }
}
