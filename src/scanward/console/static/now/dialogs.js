// Asking for a reason. A dialog about a hold is over when the hold is.

const byId = (id) => document.getElementById(id);

/** Ask for a reason.
 * @param what {title, text, needed, yes, about}: about "hold" when it ends with the hold
 * @returns {Promise<string|null>} the reason; null when it was given up */
export function reason(what) {
  const dialog = byId("reason-dialog");
  const box = byId("reason");
  byId("reason-title").textContent = what.title;
  byId("reason-text").textContent = what.text;
  byId("reason-yes").textContent = what.yes;
  dialog.dataset.about = what.about ?? "";
  byId("reason-problem").textContent = "";
  box.value = "";
  box.required = what.needed;
  byId("reason-optional").hidden = what.needed;
  dialog.showModal();
  box.focus();
  return new Promise((resolve) => {
    const done = (value) => {
      dialog.removeEventListener("close", closed);
      form.removeEventListener("submit", submitted);
      dialog.close();
      resolve(value);
    };
    const form = byId("reason-form");
    const closed = () => done(null);
    const submitted = (event) => {
      event.preventDefault();
      if (what.needed && !box.value.trim()) {
        byId("reason-problem").textContent = "A reason is needed: it is recorded. Do not name the patient.";
        box.focus();
        return;
      }
      done(box.value.trim());
    };
    dialog.addEventListener("close", closed);
    form.addEventListener("submit", submitted);
  });
}

/** Close what asks about a hold: that is over, or another. What asks about something else stays under his hands. */
export function dismiss() {
  const dialog = byId("reason-dialog");
  if (dialog.open && dialog.dataset.about === "hold") dialog.close();
}

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelectorAll("[data-close]").forEach((button) =>
    button.addEventListener("click", () => dialog.close()));
}
