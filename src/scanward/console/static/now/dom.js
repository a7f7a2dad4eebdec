// Making elements. Text from a guard comes from a scanner's host, which may be an attacker's: it is only ever text.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An element: `el("p", {class: "faint"}, "text", other)`. */
export const el = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);

/** The same, of SVG. */
export const svg = (name, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** A text with what cannot be seen written out: controls, and what turns the direction of writing. */
export function visible(value, most = 400) {
  const text = String(value ?? "").replace(
    HIDDEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** A number to four digits, any other value as text. */
export const shown = (value, most) =>
  typeof value === "number" ? String(Number(value.toPrecision(4))) : visible(value, most);

const SAID = { a: "years" }; // units that UCUM writes as nobody says them

/** A DICOM keyword that may break between its words. */
export const keyword = (name) =>
  visible(name, 80).split(/(?<=[a-z])(?=[A-Z])/).flatMap((part, at) => (at ? [el("wbr"), part] : [part]));

/** A value with its unit. */
export function withUnit(units, field, value) {
  const told = typeof value === "number" ? units[field] : "";
  const unit = SAID[told] ?? told;
  return unit && unit !== "1" ? `${shown(value)} ${unit}` : shown(value);
}

/** `95` as `1:35`. */
export function clock(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}
