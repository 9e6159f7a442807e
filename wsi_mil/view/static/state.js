// State of the slide page, stored after the # of the address, so that a shared link restores the whole view.

const NUMBERS = ["opacity", "threshold", "x", "y", "w"];
const SWITCHES = ["side", "overlay", "truth", "tissue"];
export const FIRST_METHODS = ["attention", "sparse_inversion"];

export function entryOf(slide, state) {
  return entriesOf(slide, state).find((entry) => `${entry.encoder}/${entry.model}` === state.entry);
}

// Every encoder × model of the target.
export function entriesOf(slide, state) {
  return slide.entries.filter((entry) => entry.target === state.target);
}

// Scores of the model that is chosen: `name` of each, its `method`, and the `output` that it explains.
export const scoresOf = (slide, state) => entryOf(slide, state)?.methods ?? [];

// Name of the scores by a method for an output; for its first output if it has no scores for that one.
export function scoreName(slide, state, method, output) {
  const own = scoresOf(slide, state).filter((scores) => scores.method === method);
  return (own.find((scores) => scores.output === output) ?? own[0])?.name ?? "";
}

// Name of a method on the page; with several outputs, also of the one that it explains.
export function methodTitle(slide, state, name) {
  return entryOf(slide, state)?.methods.find((method) => method.name === name)?.title ?? name.replaceAll("_", " ");
}

// Whether a state has a position and width of the view.
export const hasView = ({ x, y, w }) => w > 0 && Number.isFinite(x + y);

export function readState(slide, text) {
  const params = new URLSearchParams(text);
  const target = params.get("target") ?? slide.targets[0]?.name ?? "";
  const own = entriesOf(slide, { target });
  const first = own.find((entry) => entry.methods.length) ?? own[0];
  const state = {
    target,
    entry: first ? `${first.encoder}/${first.model}` : "",
    method: "",
    second: "",
    map: slide.defaults.map,
    scale: slide.defaults.scale,
    opacity: Math.round(100 * slide.defaults.opacity),
    threshold: 0,
    side: false,
    overlay: true,
    truth: slide.has_truth,
    tissue: false,
    x: NaN,
    y: NaN,
    w: NaN, // centre and width of the view, level-0 pixels
  };
  for (const name of Object.keys(state)) {
    if (!params.has(name)) continue;
    if (SWITCHES.includes(name)) state[name] = params.get(name) === "1";
    else if (NUMBERS.includes(name)) state[name] = Number(params.get(name));
    else state[name] = params.get(name);
  }
  return validated(slide, state);
}

// Replace values that are invalid for this slide.
export function validated(slide, state) {
  if (!slide.targets.some(({ name }) => name === state.target)) state.target = slide.targets[0]?.name ?? "";
  const [first] = entriesOf(slide, state);
  if (!entryOf(slide, state)) state.entry = first ? `${first.encoder}/${first.model}` : "";
  const names = (entryOf(slide, state)?.methods ?? []).map((method) => method.name);
  if (!names.includes(state.method)) state.method = names[0] ?? "";
  const other = FIRST_METHODS.find((name) => names.includes(name) && name !== state.method);
  if (!names.includes(state.second) || state.second === state.method) state.second = other ?? names.find((name) => name !== state.method) ?? names[0] ?? "";
  if (!slide.scales.includes(state.scale)) state.scale = slide.scales[0];
  if (!slide.colormaps.includes(state.map)) state.map = slide.colormaps[0];
  state.opacity = Math.min(100, Math.max(0, Number.isFinite(state.opacity) ? state.opacity : 75));
  state.threshold = Math.min(1000, Math.max(0, Math.round(Number.isFinite(state.threshold) ? state.threshold : 0)));
  return state;
}

export function stateHash(state) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (SWITCHES.includes(name)) params.set(name, value ? "1" : "0");
    else if (typeof value !== "number") params.set(name, value);
    else if (Number.isFinite(value)) params.set(name, String(Math.round(value * 100) / 100));
  }
  return `#${params}`;
}
