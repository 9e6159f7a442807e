// The keyboard: every key of the slide page.

import { entryOf } from "./state.js";

const PAN_SHARE = 0.15;
const ZOOM_STEP = 1.5;
const THRESHOLD_STEP = 50;
const by = (id) => document.getElementById(id);

// change(values) shows other values of the state, pane() is the view that keys move, go(id) follows a link once it is known.
export function listenForKeys({ about, state, change, pane, go }) {
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

  const names = () => entryOf(about, state)?.methods.map((method) => method.name) ?? [];
  const threshold = (step) => change({ threshold: Math.min(1000, Math.max(0, state.threshold + step)) });
  const viewKeys = {
    ArrowLeft: () => pan(-1, 0),
    ArrowRight: () => pan(1, 0),
    ArrowUp: () => pan(0, -1),
    ArrowDown: () => pan(0, 1),
    "+": () => zoom(ZOOM_STEP),
    "=": () => zoom(ZOOM_STEP),
    "-": () => zoom(1 / ZOOM_STEP),
    0: () => pane().home(),
    1: () => pane().look({ ...pane().seen, w: pane().element.clientWidth }),
  };
  const keys = {
    "[": () => threshold(-THRESHOLD_STEP),
    "]": () => threshold(THRESHOLD_STEP),
    o: () => change({ overlay: !state.overlay }),
    m: () => names().length && change({ method: names()[(names().indexOf(state.method) + 1) % names().length] }),
    s: () => names().length > 1 && change({ side: !state.side }),
    t: () => about.has_truth && change({ truth: !state.truth }),
    u: () => change({ tissue: !state.tissue }),
    n: () => go("next"),
    p: () => go("previous"),
    "?": () => by("help").showModal(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || by("help").open) return;
    if (event.target.matches("select")) return; // letters choose there
    const slides = event.target.matches("input[type=range]"); // arrows and digits are its own
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const work = keys[key] ?? (pane()?.isOpen && !slides ? viewKeys[key] : undefined);
    if (!work) return;
    event.preventDefault();
    work();
  });
}
