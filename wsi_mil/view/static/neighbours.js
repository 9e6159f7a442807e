// Previous and next slide: in the order of the sheet, or of the filtered list that the address names.

import { filterQuery, filterAndSort, readFilters, rowsAddress } from "./listing.js";

const by = (id) => document.getElementById(id);

async function neighbours(slide, filters) {
  if (filterQuery(filters)) {
    const answer = await fetch(rowsAddress(filters));
    if (answer.ok) {
      const names = filterAndSort(await answer.json(), filters).flatMap((row) => (row.page ? [row.slide] : []));
      const index = names.indexOf(slide.slide_id);
      const text = `${index < 0 ? "–" : index + 1} of ${names.length} listed`;
      return { previous: names[index - 1], next: names[index + 1], text };
    }
  }
  return { previous: slide.previous, next: slide.next, text: slide.position.join(" of ") };
}

// Set both links and the text "3 of 24". The links keep the filters; `hash` returns the state that they keep after the #.
export async function linkNeighbours(slide, hash) {
  const filters = readFilters(location.search);
  document.querySelector("a.back").search = filterQuery(filters);
  const targets = await neighbours(slide, filters);
  by("position").textContent = targets.text;
  for (const id of ["previous", "next"]) {
    if (!targets[id]) continue;
    const link = by(id);
    link.href = `/slides/${encodeURIComponent(targets[id])}${filterQuery(filters)}`;
    link.addEventListener("click", () => (link.hash = hash()));
  }
}
