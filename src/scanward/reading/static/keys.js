// Keys: their names, and what the help says of them.
import { digits, digitsEnough } from "./panel.js";

/** A key's name as in the table: letters small, Shift told apart only where it matters. */
export function keyName(event) {
  if (event.key === " ") return "Space";
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}

/** The digit of a key, wherever a keyboard has its letters (in France digits need Shift): {digit, shift}, or null. */
export function digitOf(event) {
  const found = /^(Digit|Numpad)([0-9])$/.exec(event.code);
  if (found) return { digit: Number(found[2]), shift: event.shiftKey && found[1] === "Digit" };
  return /^[0-9]$/.test(event.key) ? { digit: Number(event.key), shift: false } : null;
}

/** Whether typing belongs to what has the focus. */
export function typing(target) {
  return target instanceof HTMLInputElement && target.type !== "radio" && target.type !== "checkbox";
}

/** Help: [heading, [[keys], what]]. `questions` are those of the study. */
export function helpTable(questions, settings) {
  const answers = [];
  answers.push([[digits(questions[0].labels.length)], "answer the first question"]);
  if (questions.length > 1) {
    const second = questions[1].labels.length;
    const keys = digitsEnough(questions) ? ["6 7 8 9 0".slice(0, 2 * second - 1)] : [];
    answers.push([[...keys, `Shift + ${digits(second)}`], "answer the second question"]);
  }
  if (questions.length > 2) answers.push([["q"], "go to the next question; digits and arrow keys choose there"]);
  else answers.push([["q"], "go to the next question; arrow keys choose there"]);
  if (settings.confidence) answers.push([["c", "1–5"], "confidence"]);
  answers.push([["Enter"], "save and go on"]);
  if (settings.go_back) {
    answers.push([["b", "Backspace"], "back to the case before"]);
    answers.push([["n"], "leave that answer as it was"]);
  }
  answers.push([["p"], "pause"]);
  const view = [
    [["w", "e"], "window narrower, wider"],
    [["s", "d"], "window's centre up (darker), down (brighter)"],
    [["Shift + w e s d"], "the same in small steps"],
    [["r"], "the window the picture came with"],
    [["i"], "invert"],
    [["+", "-"], "zoom in, out"],
    [["f"], "whole picture"],
    [["o"], "1:1, one picture pixel on one screen pixel"],
    [["← ↑ → ↓"], "move the picture (with Shift: further)"],
    [["m"], "magnifier"],
    [["?"], "this help"],
  ];
  const mouse = [
    [["drag"], "window: across for its width, up for brighter"],
    [["Shift + drag", "right button"], "move the picture"],
    [["wheel"], "zoom at the pointer"],
    [["double click"], "1:1 there; again: whole picture"],
  ];
  const marks = [
    [["k"], "mark mode, on and off"],
    [["← ↑ → ↓"], "in mark mode: move the cross (with Shift: one pixel)"],
    [["Space"], "in mark mode: set a mark, or remove the one there"],
    [["Delete"], "in mark mode: remove the last mark"],
    [["Ctrl + click"], "set a mark, or remove the one there"],
  ];
  if (settings.marks) return [["Answers", answers], ["View", view], ["Mouse", mouse], ["Marks", marks]];
  return [["Answers", answers], ["View", view], ["Mouse", mouse]];
}

/** Fills the help with the table. */
export function fillHelp(root, table) {
  root.replaceChildren(...table.map(([heading, rows]) => {
    const part = document.createElement("section");
    const title = document.createElement("h3");
    title.textContent = heading;
    const list = document.createElement("dl");
    for (const [keys, what] of rows) {
      const term = document.createElement("dt");
      keys.forEach((key, index) => {
        const made = document.createElement("kbd");
        made.textContent = key;
        term.append(index ? " " : "", made);
      });
      const said = document.createElement("dd");
      said.textContent = what;
      list.append(term, said);
    }
    part.append(title, list);
    return part;
  }));
}
