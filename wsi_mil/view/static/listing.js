// Which slides the cohort page lists, and in what order: it stands in its address, and the slide page goes through the same list.

export const SELECTS = ["status", "label", "fold"];
const NUMBERS = ["prob", "tiles"];
export const SORTS = ["slide", "status", "label", "predicted", "prob", "fold", "tiles"];

// What an address asks for; `entry` is the model whose predictions count, "" for the first.
export function readChoice(search) {
  const given = new URLSearchParams(search);
  const choice = { entry: given.get("entry") ?? "", q: given.get("q") ?? "", wrong: given.get("wrong") === "1" };
  for (const name of SELECTS) choice[name] = given.get(name) ?? "";
  choice.sort = SORTS.includes(given.get("sort")) ? given.get("sort") : "";
  choice.down = choice.sort !== "" && given.get("down") === "1";
  return choice;
}

// The address of a choice: "?…", or "" where nothing is chosen.
export function choiceText(choice) {
  const found = new URLSearchParams();
  for (const name of ["entry", "q", ...SELECTS]) if (choice[name].trim()) found.set(name, choice[name].trim());
  if (choice.wrong) found.set("wrong", "1");
  if (choice.sort) found.set("sort", choice.sort);
  if (choice.sort && choice.down) found.set("down", "1");
  return found.size ? `?${found}` : "";
}

function fits(line, choice) {
  const wanted = choice.q.trim().toLowerCase();
  if (choice.wrong && !line.wrong) return false;
  if (wanted && !`${line.slide} ${line.patient} ${line.reason} ${line.status}`.toLowerCase().includes(wanted)) return false;
  return SELECTS.every((name) => !choice[name] || line[name] === (choice[name] === "-" ? "" : choice[name]));
}

// Numbers by size, names as people order them (s2 before s10); what is empty stands last either way.
function order(a, b, { sort, down }) {
  const [x, y] = [a[sort], b[sort]];
  if (!x || !y) return Number(!x) - Number(!y);
  const sign = down ? -1 : 1;
  return sign * (NUMBERS.includes(sort) ? x - y : x.localeCompare(y, undefined, { numeric: true }));
}

// Those of the lines, all values of which are text, that a choice lists.
export function listed(lines, choice) {
  const found = lines.filter((line) => fits(line, choice));
  return choice.sort ? found.sort((a, b) => order(a, b, choice)) : found;
}
