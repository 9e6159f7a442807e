// Keyboard control of the slide page.

import { scoreName, scoresOf } from "./state.js";

const PAN_SHARE = 0.15;
const ZOOM_STEP = 1.5;
const THRESHOLD_STEP = 50;
const OPACITY_STEP = 10;
const by = (id) => document.getElementById(id);

// change(values) changes the state, pane() is the pane that keys move, beforeMove() is called before they move it,
// go(id) follows a link as soon as its target is known.
export function listenForKeys({ slide, state, change, pane, beforeMove, go }) {
  function pan(x, y) {
    const { viewport } = pane().viewer;
    const bounds = viewport.getBounds();
    viewport.panBy(new OpenSeadragon.Point(x * PAN_SHARE * bounds.width, y * PAN_SHARE * bounds.height));
  }

  function zoom(factor) {
    const { viewport } = pane().viewer;
    viewport.zoomBy(factor);
    viewport.applyConstraints();
  }

  const names = () => scoresOf(slide, state).map(({ name }) => name);
  // The next method, for the same output.
  function nextMethod() {
    const { method, output } = scoresOf(slide, state).find(({ name }) => name === state.method);
    const methods = [...new Set(scoresOf(slide, state).map((scores) => scores.method))];
    change({ method: scoreName(slide, state, methods[(methods.indexOf(method) + 1) % methods.length], output) });
  }

  const step = (name, by, most) => change({ [name]: Math.min(most, Math.max(0, state[name] + by)) });
  const viewKeys = {
    ArrowLeft: () => pan(-1, 0),
    ArrowRight: () => pan(1, 0),
    ArrowUp: () => pan(0, -1),
    ArrowDown: () => pan(0, 1),
    "+": () => zoom(ZOOM_STEP),
    "=": () => zoom(ZOOM_STEP),
    "-": () => zoom(1 / ZOOM_STEP),
    0: () => pane().home(),
    1: () => pane().moveTo({ ...pane().visible, w: pane().element.clientWidth }),
  };
  const keys = {
    "[": () => step("threshold", -THRESHOLD_STEP, 1000),
    "]": () => step("threshold", THRESHOLD_STEP, 1000),
    ",": () => step("opacity", -OPACITY_STEP, 100),
    ".": () => step("opacity", OPACITY_STEP, 100),
    o: () => change({ overlay: !state.overlay }),
    m: () => names().length && nextMethod(),
    s: () => names().length > 1 && change({ side: !state.side }),
    t: () => slide.has_truth && change({ truth: !state.truth }),
    u: () => change({ tissue: !state.tissue }),
    n: () => go("next"),
    p: () => go("previous"),
    "?": () => by("help").showModal(),
  };

  // Show the focus of the slide only while keys are used: a clicked slide has the focus, too.
  document.addEventListener("keydown", () => document.body.classList.add("keyed"), { capture: true });
  document.addEventListener("pointerdown", () => document.body.classList.remove("keyed"), { capture: true });
  document.addEventListener("keydown", (event) => {
    if (isCommand(event) || by("help").open) return;
    if (event.target.matches("select")) return; // letters select an option there
    const isSlider = event.target.matches("input[type=range]"); // which uses arrows and digits itself
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const move = pane()?.isOpen && !isSlider ? viewKeys[key] : undefined;
    const action = keys[key] ?? move;
    if (!action) return;
    event.preventDefault();
    if (move) beforeMove();
    action();
  });
}

// Shortcuts of browser and system. On many keyboards [ and ] need AltGr (reported as Ctrl+Alt on Windows) or Option.
function isCommand(event) {
  if (event.metaKey) return true;
  if (event.getModifierState("AltGraph") || (event.altKey && "[]".includes(event.key))) return false;
  return event.ctrlKey || event.altKey;
}
