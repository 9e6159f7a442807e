// One view of the slide with one method over it.

import { drawMarks, scaleBar } from "./marks.js";

const BAR_PX = 140;
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

export const slideAddress = (about) => `/slides/${encodeURIComponent(about.slide_id)}`;

export function layerAddress(about, state, method) {
  const [encoder, model] = state.entry.split("/");
  return `${slideAddress(about)}/layers/${[encoder, model, method, state.scale].map(encodeURIComponent).join("/")}`;
}

export function made(tag, name, text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.textContent = text;
  return element;
}

export class Pane {
  // `changed` is called after every move, `busy` whenever something was asked for or has come.
  constructor(element, about, { moved, busy }) {
    this.about = about;
    this.element = element;
    this.busy = busy;
    this.layer = null; // what the server says of the method shown
    this.overlays = []; // layers over the slide, the newest last: older ones stay until it is there
    this.wanted = ""; // address of the overlay that is shown or on its way
    this.asked = 0;
    this.marks = {};
    this.width = about.ground.dimensions[0];
    this.height = about.ground.dimensions[1];
    this.viewer = this.#open(element);
    this.canvas = element.appendChild(made("canvas", "marks"));
    this.legend = element.appendChild(made("div", "legend"));
    this.bar = element.appendChild(made("div", "scale-bar"));
    this.length = this.bar.appendChild(made("span", ""));
    this.says = element.appendChild(made("p", "says"));
    this.viewer.addHandler("update-viewport", () => this.draw());
    this.viewer.addHandler("viewport-change", () => moved(this));
    this.viewer.addHandler("canvas-key", (event) => {
      event.preventDefaultAction = true; // the page has keys of its own
    });
  }

  #open(element) {
    const { about } = this;
    const stage = element.appendChild(made("div", "osd"));
    const viewer = OpenSeadragon({
      element: stage,
      drawer: "canvas",
      tileSources: this.#ground(),
      showNavigationControl: false,
      showNavigator: element.id === "pane-0",
      navigatorPosition: "TOP_RIGHT",
      navigatorSizeRatio: 0.16,
      navigatorOpacity: 1,
      navigatorAutoFade: false, // it would be gone while keys, panel or the other view are used
      navigatorBackground: "#14181d",
      navigatorDisplayRegionColor: "#0b5cad",
      animationTime: calm ? 0 : 0.5,
      springStiffness: 8,
      blendTime: 0,
      immediateRender: true,
      minZoomImageRatio: 0.7,
      maxZoomPixelRatio: 12,
      visibilityRatio: 0.3,
      imageLoaderLimit: 12,
      maxTilesPerFrame: 12, // the default of one waits for as many frames as there are tiles
      maxImageCacheCount: 600,
      placeholderFillStyle: null,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsPen: { clickToZoom: false, dblClickToZoom: true },
    });
    viewer.canvas.setAttribute("aria-label", `slide ${about.slide_id}, arrow keys move, + and − zoom`);
    viewer.canvas.setAttribute("role", "application");
    return viewer;
  }

  #source(size, maxLevel, address) {
    const tile = this.about.ground.tile_px;
    return { width: size[0], height: size[1], tileSize: tile, tileOverlap: 0, minLevel: 0, maxLevel, getTileUrl: address };
  }

  #ground() {
    const { ground } = this.about;
    const prefix = `${slideAddress(this.about)}/ground/${ground.version}`;
    return this.#source(ground.size, ground.max_level, (level, x, y) => `${prefix}/${level}/${x}_${y}.jpg`);
  }

  get isOpen() {
    return this.viewer.world.getItemCount() > 0;
  }

  get isBusy() {
    const { world } = this.viewer;
    const items = Array.from({ length: world.getItemCount() }, (_, i) => world.getItemAt(i));
    return !this.isOpen || this.asked > 0 || items.some((item) => !item.getFullyLoaded());
  }

  // Show a method: ask what it is, then lay its tiles over the slide. What was there stays until they are there.
  async show(state, method) {
    const [encoder, model] = state.entry.split("/");
    const known = this.about.entries.find((e) => e.encoder === encoder && e.model === model);
    const reason = known?.methods.find((found) => found.name === method)?.reason ?? "";
    if (!method) return this.#nothing("");
    const address = layerAddress(this.about, state, method);
    const tiles = `${address}/${encodeURIComponent(state.map)}/${state.threshold}`;
    if (this.wanted === tiles) return this.setOpacity(state);
    this.wanted = tiles;
    const answer = await this.#ask(`${address}/about.json?map=${encodeURIComponent(state.map)}`);
    if (this.wanted !== tiles) return;
    if (answer.failed || reason || !answer.n) {
      this.layer = answer.failed ? null : answer;
      return this.#nothing(`Nothing to show: ${answer.failed ?? (reason || "no tile has a score")}`, tiles);
    }
    this.layer = answer;
    this.says.textContent = "";
    this.#showLegend(method, state, answer);
    this.#lay(tiles, `v=${answer.version}`, state);
  }

  async #ask(address) {
    this.asked += 1;
    this.busy();
    try {
      const answer = await fetch(address);
      if (answer.ok) return await answer.json();
      return { failed: answer.status === 409 ? (await answer.json()).reason : await answer.text() };
    } catch {
      return { failed: "the server does not answer; is it still running?" };
    } finally {
      this.asked -= 1;
      this.busy();
    }
  }

  #nothing(text, wanted = "") {
    this.wanted = wanted;
    this.says.textContent = text;
    this.legend.replaceChildren();
    this.#keepOnly(null);
    this.busy();
  }

  #keepOnly(item) {
    for (const other of this.overlays) if (other !== item) this.viewer.world.removeItem(other);
    this.overlays = item ? [item] : [];
  }

  #lay(tiles, version, state) {
    const { ground } = this.about;
    const source = this.#source(ground.dimensions, ground.full_level, (l, x, y) => `${tiles}/${l}/${x}_${y}.png?${version}`);
    this.asked += 1;
    this.viewer.addTiledImage({
      tileSource: source,
      width: 1,
      opacity: state.overlay ? state.opacity / 100 : 0,
      preload: true,
      success: ({ item }) => {
        this.asked -= 1;
        if (this.wanted !== tiles) return this.viewer.world.removeItem(item);
        this.overlays.push(item);
        const swap = () => {
          if (item.getFullyLoaded() && item === this.overlays.at(-1)) this.#keepOnly(item);
          this.busy();
        };
        item.addHandler("fully-loaded-change", swap);
        swap();
        this.busy();
      },
      error: () => {
        this.asked -= 1;
        this.busy();
      },
    });
  }

  setOpacity(state) {
    for (const item of this.overlays) item.setOpacity(state.overlay ? state.opacity / 100 : 0);
  }

  #showLegend(method, state, layer) {
    const bar = made("img", "colours");
    bar.src = `/colours/${encodeURIComponent(state.map)}.png`;
    bar.alt = "";
    const ends = made("div", "ends");
    ends.append(made("span", "", number(layer.low)), made("span", "", layer.is_log ? "logarithmic" : ""), made("span", "", number(layer.high)));
    const lines = [...layer.label.split("\n"), ...(layer.note ? [layer.note] : [])].map((line) => made("p", "", line));
    this.legend.replaceChildren(made("h3", "", method.replaceAll("_", " ")), bar, ends, ...lines);
  }

  // Where the slide's corner is on the screen, and how large a level-0 pixel is there.
  get place() {
    const { viewport } = this.viewer;
    const corner = viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
    const right = viewport.pixelFromPoint(new OpenSeadragon.Point(1, 0), true);
    return { left: corner.x, top: corner.y, scale: (right.x - corner.x) / this.width };
  }

  draw() {
    if (!this.isOpen || this.element.hidden) return;
    const { place } = this;
    drawMarks(this.canvas, place, this.marks);
    const { mpp } = this.about.ground;
    this.bar.hidden = !mpp;
    if (!mpp) return;
    const [length, text] = scaleBar(mpp[0] / place.scale, BAR_PX);
    this.length.style.width = `${length}px`;
    this.length.textContent = text;
  }

  // Level-0 pixel (x, y) under a place on the screen.
  at(clientX, clientY) {
    const frame = this.element.getBoundingClientRect();
    const { left, top, scale } = this.place;
    return [(clientX - frame.left - left) / scale, (clientY - frame.top - top) / scale];
  }

  // Centre and width of what is seen, level-0 pixels.
  get seen() {
    const bounds = this.viewer.viewport.getBounds(true);
    const centre = bounds.getCenter();
    return { x: centre.x * this.width, y: centre.y * this.width, w: bounds.width * this.width };
  }

  // The middle is kept on the slide, and the width within what can be zoomed to, whatever an address says.
  look({ x, y, w }, immediately = false) {
    const { viewport } = this.viewer;
    const zoom = Math.min(viewport.getMaxZoom(), Math.max(viewport.getMinZoom(), this.width / w));
    const within = (at, most) => Math.min(most, Math.max(0, at)) / this.width;
    viewport.zoomTo(zoom, null, immediately);
    viewport.panTo(new OpenSeadragon.Point(within(x, this.width), within(y, this.height)), immediately);
  }

  // Once the view is as large as its place on the page: until then it follows with a zoom of its own.
  async hasRoom() {
    const { viewport } = this.viewer;
    const fits = () => Math.abs(viewport.getContainerSize().x - this.viewer.element.clientWidth) < 1;
    for (let frames = 0; frames < 60 && !fits(); frames++) await new Promise(requestAnimationFrame);
  }

  // The whole slide; of one that lies on a far larger ground (MRXS) what was scanned.
  home(immediately = false) {
    const { viewport } = this.viewer;
    if (!this.about.ground.bounds) return viewport.goHome(immediately);
    const [x, y, width, height] = this.about.ground.bounds.map((px) => px / this.width);
    viewport.fitBounds(new OpenSeadragon.Rect(x, y, width, height), immediately);
  }

  follow(other) {
    const { viewport } = this.viewer;
    viewport.zoomTo(other.viewer.viewport.getZoom(true), null, true);
    viewport.panTo(other.viewer.viewport.getCenter(true), true);
  }
}

export function number(value) {
  if (value === 0) return "0";
  return Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}
