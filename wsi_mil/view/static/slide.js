// The slide page: controls, linked views, outlines, and the address that holds it all.

import { listenForKeys } from "./keys.js";
import { pathOf } from "./marks.js";
import { Pane, layerAddress, made, number, slideAddress } from "./pane.js";
import { noScore, showFacts, showScore, showStrip, spaced } from "./readout.js";
import { entryOf, hasPlace, mended, readState, stateText } from "./state.js";

const AROUND_TILE = 5;
const SETTLED_MS = 180;

const about = JSON.parse(document.getElementById("about").textContent);
const by = (id) => document.getElementById(id);
const controls = by("controls").elements;
const state = readState(about, location.hash.slice(1));
const panes = [];
let leader = null;
let chosenTile = null;
let pointer = null; // {pane, x, y} in screen pixels, null where it is elsewhere
let asking = false;
let askAgain = false;

function later(work, ms) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, ms);
  };
}

// ---- controls

function options(select, values, value) {
  select.replaceChildren(...values.map(([key, text]) => new Option(text, key, false, key === value)));
  select.disabled = !values.length;
}

function showControls() {
  const entry = entryOf(about, state);
  const methods = (entry?.methods ?? []).map(({ name, reason }) => [name, spaced(name) + (reason ? " (nothing to show)" : "")]);
  options(controls.entry, about.entries.map((e) => [`${e.encoder}/${e.model}`, e.name]), state.entry);
  options(controls.method, methods, state.method);
  options(controls.second, methods, state.second);
  options(controls.map, about.colormaps.map((name) => [name, name]), state.map);
  options(controls.scale, about.scales.map((name) => [name, name]), state.scale);
  for (const name of ["side", "overlay", "truth", "tissue"]) controls[name].checked = state[name];
  for (const name of ["opacity", "threshold"]) controls[name].value = state[name];
  controls.side.disabled = methods.length < 2;
  controls.truth.disabled = !about.has_truth;
  by("second-field").hidden = !state.side;
  by("opacity-says").textContent = `${state.opacity} %`;
  by("threshold-says").textContent = state.threshold ? thresholdText() : "nothing hidden";
}

// The threshold is a place on the colour bar; where it is known, the score that it stands for. Short: it stays on its line.
function thresholdText() {
  const layer = panes[0]?.layer;
  const place = state.threshold / 1000;
  if (!layer || state.side) return `${Math.round(100 * place)} %`;
  const [low, high] = layer.is_log ? [Math.log(layer.low), Math.log(layer.high)] : [layer.low, layer.high];
  const value = low + place * (high - low);
  return `${number(layer.is_log ? Math.exp(value) : value)} (${Math.round(100 * place)} %)`;
}

// ---- the score under the pointer, or in the middle of the view

function readAt() {
  const pane = pointer?.pane ?? leader ?? panes[0];
  if (!pane?.isOpen) return null;
  const frame = pane.element.getBoundingClientRect();
  const [x, y] = pointer ? [pointer.x, pointer.y] : [frame.left + frame.width / 2, frame.top + frame.height / 2];
  return { pane, place: pane.at(x, y) };
}

async function readScore() {
  if (asking) return void (askAgain = true);
  const found = readAt();
  by("reading-title").textContent = pointer ? "Under the pointer" : "In the middle of the view";
  if (!found || !found.pane.layer?.n) return noScore("no scores are shown");
  const [x, y] = found.place;
  const method = found.pane === panes[0] ? state.method : state.second;
  asking = true;
  try {
    const answer = await fetch(`${layerAddress(about, state, method)}/at.json?x=${x.toFixed(1)}&y=${y.toFixed(1)}`);
    if (answer.ok) showScore(await answer.json(), found.pane.layer, method, [x, y]);
    else noScore("the scores can no longer be read");
  } catch {
    noScore("the server does not answer");
  }
  asking = false;
  if (askAgain) {
    askAgain = false;
    readScore();
  }
}

function flyTo([left, top, right, bottom]) {
  chosenTile = [left, top, right, bottom];
  leader = panes[0];
  leader.look({ x: (left + right) / 2, y: (top + bottom) / 2, w: AROUND_TILE * Math.max(right - left, bottom - top) });
  mark();
}

// ---- outlines

const outlines = { truth: new Map(), tissue: new Map() };

async function outline(kind) {
  const tiling = entryOf(about, state)?.tiling ?? about.tilings[0];
  if (!state[kind] || !tiling) return null;
  if (!outlines[kind].has(tiling)) {
    outlines[kind].set(tiling, await askForOutline(`${slideAddress(about)}/outlines/${kind}/${encodeURIComponent(tiling)}.json`));
  }
  const found = outlines[kind].get(tiling);
  found.path ??= pathOf(found.rings);
  return found;
}

async function askForOutline(address) {
  try {
    const answer = await fetch(address);
    return answer.ok ? await answer.json() : { rings: [], note: await answer.text() };
  } catch {
    return { rings: [], note: "the server does not answer; is it still running?" };
  }
}

async function mark() {
  const [truth, tissue] = await Promise.all([outline("truth"), outline("tissue")]);
  for (const pane of panes) {
    pane.marks = { truth: truth?.path, tissue: tissue?.path, box: chosenTile };
    pane.draw();
  }
  by("outline-note").textContent = [truth?.note, tissue?.note].filter(Boolean).join("; ");
}

// ---- linked views, and the address

const remember = later(() => {
  if (panes[0]?.isOpen) Object.assign(state, panes[0].seen);
  history.replaceState(null, "", stateText(state));
  readScore();
}, SETTLED_MS);

function moved(pane) {
  leader ??= pane;
  if (pane !== leader) return;
  if (state.side) for (const other of panes) if (other !== leader && other.isOpen) other.follow(leader);
  remember();
}

function busy() {
  const waiting = panes.some((pane) => !pane.element.hidden && pane.isBusy);
  by("main").setAttribute("aria-busy", String(waiting));
  if (!waiting) showStripOnce(); // the slide comes first
}

function openPane(number) {
  const element = by(`pane-${number}`);
  element.hidden = false;
  const pane = new Pane(element, about, { moved, busy });
  panes[number] = pane;
  for (const kind of ["pointerdown", "wheel", "focusin"]) {
    element.addEventListener(kind, () => (leader = pane), { capture: true, passive: true });
  }
  element.addEventListener("pointermove", (event) => {
    pointer = { pane, x: event.clientX, y: event.clientY };
    readScore();
  });
  element.addEventListener("pointerleave", () => {
    pointer = null;
    readScore();
  });
  pane.viewer.addHandler("open", () => {
    pane.viewer.world.getItemAt(0).addHandler("fully-loaded-change", busy);
    if (number > 0) pane.follow(panes[0]);
    else if (hasPlace(state)) pane.look(state, true);
    else pane.home(true);
    update();
  });
  pane.viewer.addHandler("resize", () => setTimeout(() => number > 0 && pane.follow(panes[0])));
}

// ---- everything after a change

async function update() {
  mended(about, state);
  by("panes").classList.toggle("two", state.side);
  by("pane-1").hidden = !state.side;
  if (state.side && !panes[1] && about.ground) openPane(1);
  if (state.side && panes[1]?.isOpen) leader = panes[0];
  showFacts(about, entryOf(about, state));
  showControls();
  mark();
  const shown = panes.map((pane, i) => (pane.isOpen && !pane.element.hidden ? pane.show(state, i ? state.second : state.method) : null));
  remember();
  await Promise.all(shown);
  for (const pane of panes) pane.setOpacity(state);
  showControls();
  readScore();
  busy();
}

let stripOf = "";

function showStripOnce() {
  if (!panes[0]) return;
  const now = `${state.entry} ${state.method} ${state.scale} ${state.map} ${panes[0]?.layer?.version}`;
  if (now !== stripOf) showStrip(about, state, panes[0].layer, flyTo);
  stripOf = now;
}

const updateSoon = later(update, 90);

function change(values) {
  Object.assign(state, values);
  update();
}

by("controls").addEventListener("submit", (event) => event.preventDefault());
by("controls").addEventListener("input", ({ target }) => {
  if (target.type === "checkbox") return change({ [target.name]: target.checked });
  if (target.type !== "range") return change({ [target.name]: target.value });
  state[target.name] = Number(target.value);
  if (target.name === "opacity") for (const pane of panes) pane.setOpacity(state);
  showControls();
  updateSoon();
});
by("ask").addEventListener("click", () => by("help").showModal());
// A link put into the address of this very page: the views have their room before they go to its place.
window.addEventListener("hashchange", async () => {
  const asked = readState(about, location.hash.slice(1));
  Object.assign(state, asked);
  update();
  if (!panes[0]?.isOpen || !hasPlace(asked)) return;
  leader = panes[0];
  await leader.hasRoom();
  leader.look(asked);
});

const go = (id) => walked.then(() => by(id).click());
const moves = () => (pointer = null); // the score is then that of the middle
listenForKeys({ about, state, change, pane: () => leader ?? panes[0], moves, go });

showFacts(about, entryOf(about, state));
showControls();
by("panes").classList.toggle("two", state.side); // before the slide is fitted to the room it has
by("pane-1").hidden = !state.side;
if (about.ground) openPane(0);
else {
  by("pane-0").append(made("p", "says", "There is no picture of this slide: see the notes on the right."));
  by("main").setAttribute("aria-busy", "false");
  update();
}

// n and p keep what is shown, but not the place: that is another slide's. The slide itself comes first.
const walked = import("./walk.js").then(({ walk }) => walk(about, () => stateText({ ...state, x: NaN, y: NaN, w: NaN })));
