// What is shown, as it stands behind the # of the address: of a shared link everything comes back.

const NUMBERS = ["opacity", "threshold", "x", "y", "w"];
const SWITCHES = ["side", "overlay", "truth", "tissue"];
export const FIRST_METHODS = ["attention", "sparse_inversion"];

export function entryOf(about, state) {
  return about.entries.find((entry) => `${entry.encoder}/${entry.model}` === state.entry);
}

// Whether it names a place to look at.
export const hasPlace = ({ x, y, w }) => w > 0 && Number.isFinite(x + y);

export function readState(about, text) {
  const given = new URLSearchParams(text);
  const first = about.entries.find((entry) => entry.methods.length) ?? about.entries[0];
  const state = {
    entry: first ? `${first.encoder}/${first.model}` : "",
    method: "",
    second: "",
    map: about.defaults.map,
    scale: about.defaults.scale,
    opacity: Math.round(100 * about.defaults.opacity),
    threshold: 0,
    side: false,
    overlay: true,
    truth: about.has_truth,
    tissue: false,
    x: NaN,
    y: NaN,
    w: NaN, // centre and width of what is seen, level-0 pixels
  };
  for (const name of Object.keys(state)) {
    if (!given.has(name)) continue;
    if (SWITCHES.includes(name)) state[name] = given.get(name) === "1";
    else if (NUMBERS.includes(name)) state[name] = Number(given.get(name));
    else state[name] = given.get(name);
  }
  return mended(about, state);
}

// Names that this slide does not have give way to those that it has.
export function mended(about, state) {
  if (!entryOf(about, state) && about.entries.length) {
    state.entry = `${about.entries[0].encoder}/${about.entries[0].model}`;
  }
  const names = (entryOf(about, state)?.methods ?? []).map((method) => method.name);
  if (!names.includes(state.method)) state.method = names[0] ?? "";
  const other = FIRST_METHODS.find((name) => names.includes(name) && name !== state.method);
  if (!names.includes(state.second) || state.second === state.method) state.second = other ?? names.find((name) => name !== state.method) ?? names[0] ?? "";
  if (!about.scales.includes(state.scale)) state.scale = about.scales[0];
  if (!about.colormaps.includes(state.map)) state.map = about.colormaps[0];
  state.opacity = Math.min(100, Math.max(0, Number.isFinite(state.opacity) ? state.opacity : 75));
  state.threshold = Math.min(1000, Math.max(0, Math.round(Number.isFinite(state.threshold) ? state.threshold : 0)));
  return state;
}

export function stateText(state) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (SWITCHES.includes(name)) found.set(name, value ? "1" : "0");
    else if (typeof value !== "number") found.set(name, value);
    else if (Number.isFinite(value)) found.set(name, String(Math.round(value * 100) / 100));
  }
  return `#${found}`;
}
