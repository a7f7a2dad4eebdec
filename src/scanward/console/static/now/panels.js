// Beside a hold: who lies on the table as each source has it, dose so far and to come, what happened before.

import { el, shown, visible, withUnit } from "./dom.js";

const PERSON = [["PatientName", "Name"], ["AccessionNumber", "Accession number"], ["PatientID", "Patient ID"]];
const WORDS = {
  PatientAge: "Age", PatientSex: "Sex", PatientWeight: "Weight", PatientSize: "Height",
  WaterEquivalentDiameter: "Water-equivalent diameter", BodyPartExamined: "Body part",
  RequestedProcedureDescription: "Procedure", ProtocolName: "Protocol", StudyDescription: "Study",
  ProtocolElementName: "Scan",
};

/** Who and what the examination in progress is for; sources side by side where they disagree. */
export function person(examination, units) {
  if (!examination) return [el("p", { class: "faint" }, "No examination is in progress.")];
  const label = examination.label ?? {};
  const rows = PERSON.filter(([name]) => label[name]).map(([name, word]) =>
    el("div", {}, el("dt", {}, word), el("dd", { class: "name" }, visible(label[name], 120))));
  const told = { ...(examination.told ?? {}), ...(examination.patient ?? {}) };
  const apart = new Set(examination.disagree ?? []);
  for (const [name, values] of Object.entries(told)) {
    const parts = (values ?? []).map((one) =>
      el("span", { class: "told" }, withUnit(units, name, one.value), " ", el("span", { class: "source" }, visible(one.source, 20))));
    rows.push(el("div", { class: apart.has(name) ? "apart" : null }, el("dt", {}, WORDS[name] ?? visible(name, 60)),
      el("dd", {}, parts, apart.has(name) ? el("strong", {}, " ▲ sources disagree") : null)));
  }
  const out = [];
  if (apart.size) {
    out.push(el("p", { class: "problem" }, `▲ Sources disagree on ${[...apart].map((name) => WORDS[name] ?? visible(name, 60)).join(", ")}. Look at the person on the table.`));
  }
  if (examination.label_source === "host") {
    out.push(el("p", { class: "faint" }, "No worklist answered: this identity is the host's word alone."));
  } else if (!Object.keys(label).length) {
    out.push(el("p", { class: "faint" }, "Nobody told whose examination this is."));
  }
  out.push(el("dl", { class: "person" }, rows));
  return out;
}

/** Dose of the examination: so far, with what is loaded, and the values it is compared with. */
export function dose(examination) {
  const rows = (examination?.dose ?? []).flatMap((one) => [
    row(one, "CTDIvol", "mGy", one.ctdivol, one.forecast_ctdivol, one.alert_ctdivol, one.absolute_ctdivol),
    row(one, "DLP", "mGy.cm", one.dlp, one.forecast_dlp, one.alert_dlp, one.absolute_dlp),
    notification(one),
  ]).filter(Boolean);
  if (!rows.length) return [el("p", { class: "faint" }, "No dose so far.")];
  return [el("table", { class: "doses" },
    el("caption", { class: "visually-hidden" }, "Dose of this examination"),
    el("thead", {}, el("tr", {}, ["", "so far", "with what is loaded", "alert value", ""].map((name) =>
      name ? el("th", { scope: "col" }, name) : el("td", {})))),
    el("tbody", {}, rows))];
}

function row(one, name, unit, sofar, forecast, alert, absolute) {
  const most = forecast ?? sofar;
  if (typeof most !== "number" || (!most && !sofar)) return null;
  const over = typeof alert === "number" && most > alert;
  const never = typeof absolute === "number" && most > absolute;
  const share = typeof alert === "number" && alert > 0 ? Math.round((100 * most) / alert) : null;
  return el("tr", {},
    el("th", { scope: "row" }, `${name}, ${unit}`, el("span", { class: "faint" }, one.phantom ? `, ${one.phantom} cm phantom` : ", phantom not told")),
    el("td", { class: "number" }, shown(sofar)),
    el("td", { class: "number" }, forecast === null || forecast === undefined ? "being judged" : shown(forecast)),
    el("td", { class: "number" }, typeof alert === "number" ? shown(alert) : "–"),
    el("td", {}, never ? el("strong", {}, "■ beyond the absolute cap") : over ? el("strong", {}, "▲ beyond the alert value") : share === null ? "" : `${share} % of it`));
}

function notification(one) {
  const said = [["CTDIvol", "mGy", one.element_ctdivol, one.notification_ctdivol], ["DLP", "mGy.cm", one.element_dlp, one.notification_dlp]]
    .filter(([, , value, limit]) => typeof value === "number" && typeof limit === "number");
  if (!said.length) return null;
  const text = said.map(([name, unit, value, limit]) =>
    `${name} ${shown(value)} of ${shown(limit)} ${unit}${value > limit ? " ▲ beyond it" : ""}`).join("; ");
  return el("tr", {}, el("th", { scope: "row" }, "Notification value"), el("td", { colspan: 4 }, `this scan: ${text}`));
}

/** What the guard said lately, the newest first. */
export function news(events, now) {
  const rows = [...(events ?? [])].reverse().slice(0, 12).map((one) =>
    el("li", {}, el("time", { datetime: new Date(one.at * 1000).toISOString() }, ago(now - one.at)), " ",
      el("strong", {}, visible(one.kind, 40).replaceAll("_", " ")), " ", summary(one.data)));
  return rows.length ? [el("ul", { class: "news" }, rows)] : [el("p", { class: "faint" }, "Nothing yet.")];
}

function summary(data) {
  if (!data) return "";
  if (data.reason) return visible(data.reason, 200);
  return visible(Object.entries(data).filter(([, v]) => ["string", "number"].includes(typeof v)).slice(0, 4)
    .map(([name, value]) => `${name} ${value}`).join(", "), 200);
}

function ago(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s ago`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

/** What a guard that was made weaker than it can be says of itself, and what else everybody should know. */
export function warnings(state) {
  const out = [];
  if (state.link !== "up") {
    const word = { silent: "This scanner's guard is SILENT", down: "Nobody answers at this scanner's guard", refused: "This scanner's guard is refused" }[state.link] ?? "No link";
    out.push(el("p", { class: "problem" }, `${word}: ${visible(state.link_reason, 200)}. What stands below may be old. Decide at the guard's own terminal.`));
  }
  if (state.emergency?.on) {
    out.push(el("p", { class: "notice" }, `▲ EMERGENCY ACCESS by ${visible(state.emergency.operator, 64)}: what is loaded now passes.`));
  }
  for (const grant of state.emergency?.unexplained ?? []) {
    out.push(el("p", { class: "notice" }, `Emergency access ${shown(grant.number)} by ${visible(grant.operator, 64)} waits for a reason.`));
  }
  if (state.gate?.log && state.gate.log !== "ok") {
    out.push(el("p", { class: "problem" }, `The audit log is ${visible(state.gate.log, 20)}: nothing new is released.`));
  }
  for (const weakening of state.policy?.weakenings ?? []) {
    out.push(el("p", { class: "notice" }, `▲ ${visible(weakening, 200)}`));
  }
  return out;
}
