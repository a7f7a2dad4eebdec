// The questions at the side of the picture: radio groups, made from what the study asks.

const CONFIDENCE = {
  identifier: "confidence",
  text: "How confident are you?",
  labels: ["guessing", "unsure", "fairly sure", "sure", "certain"],
};
const SECOND = "67890"; // keys of a second question with five labels; Shift and a digit works for it too

/** Whether the ten digits are enough for the first two questions; otherwise the second one takes Shift and a digit. */
export function digitsEnough(questions) {
  return questions.slice(0, 2).every((question) => question.labels.length <= SECOND.length);
}

/** The keys of a number of labels, as one writes them. */
export function digits(labels) {
  return labels === 10 ? "1–9, 0" : `1–${labels}`;
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** `rated(question, rating, how)` is called for every answer; `confidence` is a question like the others here. */
export class Panel {
  constructor(root, questions, settings, rated) {
    this.root = root;
    this.rated = rated;
    this.questions = settings.confidence ? [...questions, CONFIDENCE] : [...questions];
    this.required = new Set(questions.map((question) => question.identifier));
    this.sets = this.questions.map((question, index) => this.#group(question, index));
    root.replaceChildren(...this.sets);
    root.addEventListener("change", (event) => {
      const input = event.target;
      if (input instanceof HTMLInputElement) this.#changed(input.name, Number(input.value), "chosen");
    });
  }

  /** The key shown beside a label, if it has one that works from anywhere. `questions` are those of the study. */
  static key(index, rating, questions) {
    const digit = String(rating % 10); // a tenth label has key 0
    if (index === 0) return digit;
    if (index === 1) return digitsEnough(questions) ? SECOND[rating - 1] : `⇧${digit}`;
    return "";
  }

  #group(question, index) {
    const lesser = question === CONFIDENCE;
    const number = lesser ? "" : `${index + 1}. `;
    const legend = element("legend", {}, `${number}${question.text}`);
    if (lesser) legend.append(" ", element("span", { class: "aside" }, "optional"));
    const options = question.labels.map((label, at) => {
      const key = lesser ? "" : Panel.key(index, at + 1, this.questions);
      const input = element("input", {
        type: "radio", name: question.identifier, value: String(at + 1), id: `${question.identifier}-${at + 1}`,
      });
      const words = element("label", { for: input.id },
        element("span", { class: "rating" }, String(at + 1)),
        element("span", { class: "label" }, label));
      if (key) words.append(element("kbd", { "aria-hidden": "true" }, key));
      return element("div", { class: "option" }, input, words);
    });
    const set = element("fieldset", { id: `question-${question.identifier}`, class: "question" }, legend,
      element("div", { class: "options" }, ...options));
    if (index > 1 || lesser) {
      const way = lesser ? "c" : "q";
      set.append(element("p", { class: "hint" }, element("kbd", {}, way), " then ",
        element("kbd", {}, digits(question.labels.length))));
    }
    return set;
  }

  #changed(identifier, rating, how) {
    this.#miss(identifier, false);
    this.rated(identifier, rating, how);
  }

  #inputs(identifier) {
    return [...this.root.querySelectorAll("input")].filter((input) => input.name === identifier);
  }

  /** Answers a question by a key. @returns whether there is such a question and label */
  rate(identifier, rating) {
    const input = this.#inputs(identifier)[rating - 1];
    if (!input || input.disabled) return false;
    input.checked = true;
    this.#changed(identifier, rating, "key");
    return true;
  }

  /** The question at a place of the page, if any. */
  at(index) {
    return this.questions[index];
  }

  /** The question that has the focus, as {question, index}, or null. */
  get focused() {
    const index = this.sets.findIndex((set) => set.contains(document.activeElement));
    return index < 0 ? null : { question: this.questions[index], index };
  }

  focus(identifier) {
    const inputs = this.#inputs(identifier);
    (inputs.find((input) => input.checked) ?? inputs[0])?.focus();
  }

  /** Moves the focus to the next question, round and round. */
  focusNext() {
    const next = ((this.focused?.index ?? -1) + 1) % this.questions.length;
    this.focus(this.questions[next].identifier);
  }

  /** {ratings, confidence} as they stand. */
  read() {
    const ratings = {};
    let confidence = null;
    for (const { identifier } of this.questions) {
      const chosen = this.#inputs(identifier).find((input) => input.checked);
      if (!chosen) continue;
      if (identifier === CONFIDENCE.identifier && !this.required.has(identifier)) confidence = Number(chosen.value);
      else ratings[identifier] = Number(chosen.value);
    }
    return { ratings, confidence };
  }

  /** Shows answers given before, or none. */
  show(ratings = {}, confidence = null) {
    for (const { identifier } of this.questions) {
      this.#miss(identifier, false);
      const chosen = this.required.has(identifier) ? ratings[identifier] : confidence;
      for (const input of this.#inputs(identifier)) input.checked = Number(input.value) === chosen;
    }
  }

  /** The first question without an answer, or null; it is marked so. */
  missing() {
    const { ratings } = this.read();
    const open = this.questions.find(({ identifier }) => this.required.has(identifier) && !(identifier in ratings));
    if (open) this.#miss(open.identifier, true);
    return open ?? null;
  }

  #miss(identifier, missed) {
    const set = this.sets[this.questions.findIndex((question) => question.identifier === identifier)];
    set?.classList.toggle("missed", missed);
  }

  enable(able) {
    for (const set of this.sets) set.disabled = !able;
  }
}
