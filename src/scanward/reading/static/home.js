// Times in the reader's own words and zone; without this module they stand there in UTC.
const LONG = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "short" });

/** Writes every <time datetime> of a part of the page in local time. */
export function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) time.textContent = LONG.format(moment);
  }
}

localTimes(document);
