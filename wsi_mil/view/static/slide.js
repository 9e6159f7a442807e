// The slide page: controls, linked views, outlines, and the address that stores its state.

import { listenForKeys } from "./keys.js";
import { pathOf } from "./marks.js";
import { Pane, layerUrl, createElement, number, slideUrl } from "./pane.js";
import { noScore, showFacts, showScore, showStrip } from "./readout.js";
import { entriesOf, entryOf, hasView, methodTitle, readState, scoreName, scoresOf, stateHash, validated } from "./state.js";

const AROUND_TILE = 5;
const SETTLED_MS = 180;

const slide = JSON.parse(document.getElementById("slide-data").textContent);
const by = (id) => document.getElementById(id);
const controls = by("controls").elements;
const state = readState(slide, location.hash.slice(1));
const panes = [];
let leader = null;
let selectedTile = null;
let pointer = null; // {pane, x, y} in screen pixels; null outside of the slide
let isReading = false;
let readAgain = false;

function debounce(work, ms) {
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

// The method and the output of the scores in a pane: each in a list of its own.
function showChoice(key) {
  const all = scoresOf(slide, state);
  const { method, output } = all.find(({ name }) => name === state[key]) ?? {};
  const distinct = (values) => [...new Set(values)];
  const text = (base) => {
    const scores = all.find(({ name }) => name === scoreName(slide, state, base, output));
    return base.replaceAll("_", " ").replace(".fine", ", fine") + (scores?.reason ? " (no scores)" : "");
  };
  options(controls[key], distinct(all.map((scores) => scores.method)).map((base) => [base, text(base)]), method);
  const outputs = distinct(all.filter((scores) => scores.method === method).map((scores) => scores.output));
  options(controls[`${key}-output`], outputs.map((name) => [name, name]), output);
  by(`${key}-output-field`).hidden = !outputs.some(Boolean) || (key === "second" && !state.side);
}

// The scores that are meant by a choice of method or output for a pane.
function chosenScores(name, value) {
  const [key, isOutput] = name.split("-");
  const { method, output } = scoresOf(slide, state).find((scores) => scores.name === state[key]) ?? {};
  return { [key]: isOutput ? scoreName(slide, state, method, value) : scoreName(slide, state, value, output) };
}

function showControls() {
  const n = scoresOf(slide, state).length;
  options(controls.target, slide.targets.map(({ name }) => [name, name]), state.target);
  by("target-field").hidden = slide.targets.length < 2;
  options(controls.entry, entriesOf(slide, state).map((e) => [`${e.encoder}/${e.model}`, e.name]), state.entry);
  for (const key of ["method", "second"]) showChoice(key);
  options(controls.map, slide.colormaps.map((name) => [name, name]), state.map);
  options(controls.scale, slide.scales.map((name) => [name, name]), state.scale);
  for (const name of ["side", "overlay", "truth", "tissue"]) controls[name].checked = state[name];
  for (const name of ["opacity", "threshold"]) controls[name].value = state[name];
  controls.side.disabled = n < 2;
  controls.truth.disabled = !slide.has_truth;
  by("second-field").hidden = !state.side;
  by("opacity-value").textContent = `${state.opacity} %`;
  by("threshold-value").textContent = state.threshold ? thresholdText() : "nothing hidden";
}

// Text of the threshold: the score, if known, and the position on the colour bar. It must fit on one line.
function thresholdText() {
  const layer = panes[0]?.layer;
  const position = state.threshold / 1000;
  if (!layer || state.side) return `${Math.round(100 * position)} %`;
  const [low, high] = layer.is_log ? [Math.log(layer.low), Math.log(layer.high)] : [layer.low, layer.high];
  const value = low + position * (high - low);
  return `${number(layer.is_log ? Math.exp(value) : value)} (${Math.round(100 * position)} %)`;
}

// ---- the score under the pointer, or at the centre of the view

function readingPosition() {
  const pane = pointer?.pane ?? leader ?? panes[0];
  if (!pane?.isOpen) return null;
  const frame = pane.element.getBoundingClientRect();
  const [x, y] = pointer ? [pointer.x, pointer.y] : [frame.left + frame.width / 2, frame.top + frame.height / 2];
  return { pane, position: pane.at(x, y) };
}

async function readScore() {
  if (isReading) return void (readAgain = true);
  const reading = readingPosition();
  by("reading-title").textContent = pointer ? "Score under the pointer" : "Score at the centre of the view";
  if (!reading || !reading.pane.layer?.n) return noScore("no scores");
  const [x, y] = reading.position;
  const method = reading.pane === panes[0] ? state.method : state.second;
  isReading = true;
  try {
    const answer = await fetch(`${layerUrl(slide, state, method)}/at.json?x=${x.toFixed(1)}&y=${y.toFixed(1)}`);
    if (answer.ok) showScore(await answer.json(), reading.pane.layer, methodTitle(slide, state, method), [x, y]);
    else noScore("the scores can no longer be read");
  } catch {
    noScore("the server does not answer");
  }
  isReading = false;
  if (readAgain) {
    readAgain = false;
    readScore();
  }
}

function showTile([left, top, right, bottom]) {
  selectedTile = [left, top, right, bottom];
  leader = panes[0];
  leader.moveTo({ x: (left + right) / 2, y: (top + bottom) / 2, w: AROUND_TILE * Math.max(right - left, bottom - top) });
  mark();
}

// ---- outlines

const outlines = { truth: new Map(), tissue: new Map() };

async function outline(kind) {
  const tiling = entryOf(slide, state)?.tiling ?? slide.tilings[0];
  if (!state[kind] || !tiling) return null;
  if (!outlines[kind].has(tiling)) {
    outlines[kind].set(tiling, await fetchOutline(`${slideUrl(slide)}/outlines/${kind}/${encodeURIComponent(tiling)}.json`));
  }
  const answer = outlines[kind].get(tiling);
  answer.path ??= pathOf(answer.rings);
  return answer;
}

async function fetchOutline(address) {
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
    pane.marks = { truth: truth?.path, tissue: tissue?.path, box: selectedTile };
    pane.draw();
  }
  by("outline-note").textContent = [truth?.note, tissue?.note].filter(Boolean).join("; ");
}

// ---- linked views, and the address

const updateAddress = debounce(() => {
  if (panes[0]?.isOpen) Object.assign(state, panes[0].visible);
  history.replaceState(null, "", stateHash(state));
  readScore();
}, SETTLED_MS);

function moved(pane) {
  leader ??= pane;
  if (pane !== leader) return;
  if (state.side) for (const other of panes) if (other !== leader && other.isOpen) other.follow(leader);
  updateAddress();
}

function busy() {
  const waiting = panes.some((pane) => !pane.element.hidden && pane.isBusy);
  by("main").setAttribute("aria-busy", String(waiting));
  if (!waiting) showStripOnce(); // after the slide
}

function openPane(number) {
  const element = by(`pane-${number}`);
  element.hidden = false;
  const pane = new Pane(element, slide, { moved, busy });
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
    else if (hasView(state)) pane.moveTo(state, true);
    else pane.home(true);
    update();
  });
  pane.viewer.addHandler("resize", () => setTimeout(() => number > 0 && pane.follow(panes[0])));
}

// ---- everything after a change

async function update() {
  validated(slide, state);
  by("panes").classList.toggle("two", state.side);
  by("pane-1").hidden = !state.side;
  if (state.side && !panes[1] && slide.image) openPane(1);
  if (state.side && panes[1]?.isOpen) leader = panes[0];
  showFacts(slide, state);
  showControls();
  mark();
  const shown = panes.map((pane, i) => (pane.isOpen && !pane.element.hidden ? pane.show(state, i ? state.second : state.method) : null));
  updateAddress();
  await Promise.all(shown);
  for (const pane of panes) pane.setOpacity(state);
  showControls();
  readScore();
  busy();
}

let shownStrip = "";

function showStripOnce() {
  if (!panes[0]) return;
  const wantedStrip = `${state.target} ${state.entry} ${state.method} ${state.scale} ${state.map} ${panes[0]?.layer?.version}`;
  if (wantedStrip !== shownStrip) showStrip(slide, state, panes[0].layer, showTile);
  shownStrip = wantedStrip;
}

const updateSoon = debounce(update, 90);

function change(values) {
  Object.assign(state, values);
  update();
}

by("controls").addEventListener("submit", (event) => event.preventDefault());
by("controls").addEventListener("input", ({ target }) => {
  if (target.type === "checkbox") return change({ [target.name]: target.checked });
  if (/^(method|second)/.test(target.name)) return change(chosenScores(target.name, target.value));
  if (target.type !== "range") return change({ [target.name]: target.value });
  state[target.name] = Number(target.value);
  if (target.name === "opacity") for (const pane of panes) pane.setOpacity(state);
  showControls();
  updateSoon();
});
by("show-keys").addEventListener("click", () => by("help").showModal());
// Another address pasted on this page: the panes must have their size before they move.
window.addEventListener("hashchange", async () => {
  const requested = readState(slide, location.hash.slice(1));
  Object.assign(state, requested);
  update();
  if (!panes[0]?.isOpen || !hasView(requested)) return;
  leader = panes[0];
  await leader.whenResized();
  leader.moveTo(requested);
});

const go = (id) => linked.then(() => by(id).click());
const beforeMove = () => (pointer = null); // then the score at the centre is shown
listenForKeys({ slide, state, change, pane: () => leader ?? panes[0], beforeMove, go });

showFacts(slide, state);
showControls();
by("panes").classList.toggle("two", state.side); // before the slide is fitted to its pane
by("pane-1").hidden = !state.side;
if (slide.image) openPane(0);
else {
  by("pane-0").append(createElement("p", "message", "This slide cannot be displayed; see the notes on the right."));
  by("main").setAttribute("aria-busy", "false");
  update();
}

// n and p keep the state, except for the position, which is valid for this slide only. Loaded after the slide.
const withoutPosition = () => stateHash({ ...state, x: NaN, y: NaN, w: NaN });
const linked = import("./neighbours.js").then(({ linkNeighbours }) => linkNeighbours(slide, withoutPosition));
