// From slide to slide: in the order of the sheet, or of the list on the cohort page that one comes from, which the address names.

import { choiceText, listed, readChoice } from "./listing.js";

const by = (id) => document.getElementById(id);

async function places(about, choice) {
  if (choiceText(choice)) {
    const answer = await fetch(choice.entry ? `/lines.json?entry=${encodeURIComponent(choice.entry)}` : "/lines.json");
    if (answer.ok) {
      const names = listed(await answer.json(), choice).flatMap((line) => (line.page ? [line.slide] : []));
      const at = names.indexOf(about.slide_id);
      const text = `${at < 0 ? "–" : at + 1} of ${names.length} listed`;
      return { previous: names[at - 1], next: names[at + 1], text };
    }
  }
  return { previous: about.previous, next: about.next, text: about.place.join(" of ") };
}

// Set both links and say the place. The links carry the list on; `kept` gives what else they carry, behind the #.
export async function walk(about, kept) {
  const choice = readChoice(location.search);
  document.querySelector("a.back").search = choiceText(choice);
  const found = await places(about, choice);
  by("place").textContent = found.text;
  for (const id of ["previous", "next"]) {
    if (!found[id]) continue;
    const link = by(id);
    link.href = `/slides/${encodeURIComponent(found[id])}${choiceText(choice)}`;
    link.addEventListener("click", () => (link.hash = kept()));
  }
}
