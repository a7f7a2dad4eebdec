// What is on hold: the fields objected to as got / expected / how unusual, then everything else of the commands.

import { el, keyword, shown, svg, visible, withUnit } from "./dom.js";

const MARK = { HALT: "■", ALERT: "▲", INFORMATION: "○" };
const MOST = 8; // objections shown at once; all stand under the details

/** The objections of a hold, those that counted first: `[{element, objection}]`. */
export function objections(held) {
  const found = (held.findings ?? []).flatMap((finding, element) =>
    (finding.objections ?? []).map((objection) => ({ element, objection })));
  const grave = { HALT: 2, ALERT: 1, INFORMATION: 0 };
  return found.sort((a, b) => (grave[b.objection.severity] ?? 0) - (grave[a.objection.severity] ?? 0));
}

/** How unusual, in words. */
export function unusual(objection) {
  if (typeof objection.p_value === "number" && objection.p_value > 0) {
    const one = 1 / objection.p_value;
    return one >= 1.5 ? `about 1 in ${one >= 100 ? Math.round(one / 10) * 10 : Math.round(one)} by this layer` : "usual by this layer";
  }
  return objection.severity === "INFORMATION" ? "for information" : "breaks a rule";
}

/** How unusual the strangest command is as a whole, by the number that is calibrated; "" where none was given. */
export function together(held) {
  const known = (held.findings ?? []).map((finding) => finding.p_value).filter((p) => typeof p === "number" && p > 0);
  if (!known.length) return "";
  const one = 1 / Math.min(...known);
  if (one < 1.5) return "As a whole not unusual: what is objected to breaks a rule.";
  const rounded = one >= 100 ? Math.round(one / 10) * 10 : Math.round(one);
  return `As a whole as strange as at most about 1 in ${rounded} of the recorded examinations.`;
}

/** The table of objections. `places`: where each value lies among the site's own, where that is known. */
export function table(held, units, places) {
  const found = objections(held);
  const several = (held.chain ?? []).length > 1;
  const counted = found.filter((one) => one.objection.severity !== "INFORMATION");
  const rows = (counted.length ? counted : found).slice(0, MOST).map(({ element, objection }) =>
    el("tr", { "data-field": objection.field },
      el("th", { scope: "row" }, `${MARK[objection.severity] ?? ""} `, keyword(objection.field),
        several ? el("span", { class: "faint" }, ` scan ${element + 1}`) : null),
      el("td", { class: "got" }, withUnit(units, objection.field, objection.found)),
      el("td", { class: "expected" }, objection.expected ? visible(objection.expected, 120) : "–"),
      el("td", {}, unusual(objection), picture(places, element, objection.field)),
      el("td", {}, visible(objection.reason, 200), el("span", { class: "faint" }, ` (${visible(objection.layer, 40).replaceAll("_", " ")})`))));
  if (!rows.length) return null;
  return el("table", { class: "objections" },
    el("caption", { class: "visually-hidden" }, "What is objected to"),
    el("thead", {}, el("tr", {}, ["Field", "Got", "Expected", "How unusual", "Why"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows));
}

/** A small histogram of what this bundle learned, the value's own bin marked; null where it is not known. */
function picture(places, element, field) {
  const place = places?.find((one) => one.element === element && one.field === field);
  if (!place) return null;
  const width = 180;
  const height = 44;
  const step = width / place.shares.length;
  const top = Math.max(...place.shares);
  const bars = place.shares.map((share, at) => {
    const tall = Math.max(1.5, (share / top) * (height - 12));
    return svg("rect", { x: at * step + 1, y: height - 10 - tall, width: Math.max(1, step - 2), height: tall, class: at === place.at ? "here" : "bar" });
  });
  const x = (place.at + 0.5) * step;
  const mark = svg("path", { d: `M${x - 5},${height} L${x + 5},${height} L${x},${height - 8} Z`, class: "mark" });
  const share = place.shares[place.at];
  const words = `${place.names[place.at]}: ${share < 0.0005 ? "under 0.1" : (100 * share).toFixed(1)} % of the commands that were learned from`;
  return el("figure", { class: "place" },
    svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words }, bars, mark),
    el("figcaption", {}, words));
}

/** Every parameter of every command on hold, and what each source says it is for. */
export function everything(held, units) {
  const out = [];
  if (held.motion) {
    const { axis, target, speed } = held.motion;
    out.push(el("p", {}, `Motion: ${shown(axis)} to ${shown(target)} at ${shown(speed)} per s`));
  }
  (held.chain ?? []).forEach((element, at) => {
    const parameters = Object.entries(element.command?.parameters ?? {}).sort(([a], [b]) => a.localeCompare(b));
    out.push(el("h3", {}, `Scan ${at + 1}${element.auto ? " (starts by itself)" : ""}`),
      el("table", {}, el("caption", { class: "visually-hidden" }, `Parameters of scan ${at + 1}`),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Parameter"), el("th", { scope: "col" }, "Value"))),
        el("tbody", {}, parameters.map(([name, value]) =>
          el("tr", {}, el("th", { scope: "row" }, keyword(name)), el("td", {}, withUnit(units, name, value)))))));
  });
  return out;
}
