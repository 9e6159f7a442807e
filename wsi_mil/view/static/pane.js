// One view of the slide with the heatmap of one method.

import { drawMarks, scaleBar } from "./marks.js";
import { entryOf, methodTitle } from "./state.js";

const BAR_PX = 140;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;

export const slideUrl = (slide) => `/slides/${encodeURIComponent(slide.slide_id)}`;

export function layerUrl(slide, state, method) {
  const [encoder, model] = state.entry.split("/");
  return `${slideUrl(slide)}/layers/${[state.target, encoder, model, method, state.scale].map(encodeURIComponent).join("/")}`;
}

export function createElement(tag, name, text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.textContent = text;
  return element;
}

export class Pane {
  // `moved` is called after every move, `busy` whenever a request was sent or answered.
  constructor(element, slide, { moved, busy }) {
    this.slide = slide;
    this.element = element;
    this.busy = busy;
    this.layer = null; // description of the layer shown, from the server
    this.overlays = []; // layers over the slide, the newest last: older ones stay until it is loaded
    this.overlayUrl = ""; // address of the overlay that is shown or being loaded
    this.pending = 0; // requests without an answer
    this.marks = {};
    this.width = slide.image.dimensions[0];
    this.height = slide.image.dimensions[1];
    this.viewer = this.#open(element);
    this.canvas = element.appendChild(createElement("canvas", "marks"));
    this.legend = element.appendChild(createElement("div", "legend"));
    this.bar = element.appendChild(createElement("div", "scale-bar"));
    this.length = this.bar.appendChild(createElement("span", ""));
    this.message = element.appendChild(createElement("p", "message"));
    this.trust = element.appendChild(createElement("p", "trust"));
    this.viewer.addHandler("update-viewport", () => this.draw());
    this.viewer.addHandler("viewport-change", () => moved(this));
    this.viewer.addHandler("canvas-key", (event) => {
      event.preventDefaultAction = true; // the page handles keys itself
    });
  }

  #open(element) {
    const { slide } = this;
    const stage = element.appendChild(createElement("div", "osd"));
    const viewer = OpenSeadragon({
      element: stage,
      drawer: "canvas",
      tileSources: this.#slideSource(),
      showNavigationControl: false,
      showNavigator: element.id === "pane-0",
      navigatorPosition: "TOP_RIGHT",
      navigatorSizeRatio: 0.16,
      navigatorOpacity: 1,
      navigatorAutoFade: false, // keep it visible while keys, panel or the other view are used
      navigatorBackground: "#14181d",
      navigatorDisplayRegionColor: "#0b5cad",
      animationTime: reducedMotion ? 0 : 0.5,
      springStiffness: 8,
      blendTime: 0,
      immediateRender: true,
      minZoomImageRatio: 0.7,
      maxZoomPixelRatio: 12,
      visibilityRatio: 0.3,
      imageLoaderLimit: 12,
      maxTilesPerFrame: 12, // the default of 1 needs one frame per tile
      maxImageCacheCount: 600,
      placeholderFillStyle: null,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsPen: { clickToZoom: false, dblClickToZoom: true },
    });
    viewer.canvas.setAttribute("aria-label", `slide ${slide.slide_id}, arrow keys move, + and − zoom`);
    viewer.canvas.setAttribute("role", "application");
    return viewer;
  }

  #source(size, maxLevel, address) {
    const tile = this.slide.image.tile_px;
    return { width: size[0], height: size[1], tileSize: tile, tileOverlap: 0, minLevel: 0, maxLevel, getTileUrl: address };
  }

  #slideSource() {
    const { image } = this.slide;
    const prefix = `${slideUrl(this.slide)}/image/${image.version}`;
    return this.#source(image.size, image.max_level, (level, x, y) => `${prefix}/${level}/${x}_${y}.jpg`);
  }

  get isOpen() {
    return this.viewer.world.getItemCount() > 0;
  }

  get isBusy() {
    const { world } = this.viewer;
    const items = Array.from({ length: world.getItemCount() }, (_, i) => world.getItemAt(i));
    return !this.isOpen || this.pending > 0 || items.some((item) => !item.getFullyLoaded());
  }

  // Show the heatmap of a method: get its description, then its tiles. The previous heatmap stays until they are loaded.
  async show(state, method) {
    const reason = entryOf(this.slide, state)?.methods.find((other) => other.name === method)?.reason ?? "";
    if (!method) {
      this.layer = null;
      return this.#showMessage("");
    }
    const address = layerUrl(this.slide, state, method);
    const tiles = `${address}/${encodeURIComponent(state.map)}/${state.threshold}`;
    if (this.overlayUrl === tiles) return this.setOpacity(state);
    this.overlayUrl = tiles;
    const answer = await this.#fetch(`${address}/about.json?map=${encodeURIComponent(state.map)}`);
    if (this.overlayUrl !== tiles) return;
    if (answer.failed || reason || !answer.n) {
      this.layer = answer.failed ? null : answer;
      return this.#showMessage(`No heatmap: ${answer.failed ?? (reason || "no tile has a score")}`, tiles);
    }
    this.layer = answer;
    this.message.textContent = "";
    this.#showTrust(state, method);
    this.#showLegend(method, state, answer);
    this.#addLayer(tiles, `v=${answer.version}`, state);
  }

  async #fetch(address) {
    this.pending += 1;
    this.busy();
    try {
      const answer = await fetch(address);
      if (answer.ok) return await answer.json();
      return { failed: answer.status === 409 ? (await answer.json()).reason : await answer.text() };
    } catch {
      return { failed: "the server does not answer; is it still running?" };
    } finally {
      this.pending -= 1;
      this.busy();
    }
  }

  #showMessage(text, overlayUrl = "") {
    this.overlayUrl = overlayUrl;
    this.message.textContent = text;
    this.legend.replaceChildren();
    this.trust.textContent = "";
    this.#keepOnly(null);
    this.busy();
  }

  // How far the heatmap can be trusted, across the top of the view.
  #showTrust(state, method) {
    const { trust = "", is_warning } = entryOf(this.slide, state)?.methods.find(({ name }) => name === method) ?? {};
    this.trust.textContent = trust;
    this.trust.classList.toggle("warned", Boolean(is_warning));
  }

  #keepOnly(item) {
    for (const other of this.overlays) if (other !== item) this.viewer.world.removeItem(other);
    this.overlays = item ? [item] : [];
  }

  #addLayer(tiles, version, state) {
    const { image } = this.slide;
    const source = this.#source(image.dimensions, image.full_level, (l, x, y) => `${tiles}/${l}/${x}_${y}.png?${version}`);
    this.pending += 1;
    this.viewer.addTiledImage({
      tileSource: source,
      width: 1,
      opacity: state.overlay ? state.opacity / 100 : 0,
      preload: true,
      success: ({ item }) => {
        this.pending -= 1;
        if (this.overlayUrl !== tiles) return this.viewer.world.removeItem(item);
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
        this.pending -= 1;
        this.busy();
      },
    });
  }

  setOpacity(state) {
    for (const item of this.overlays) item.setOpacity(state.overlay ? state.opacity / 100 : 0);
  }

  #showLegend(method, state, layer) {
    const bar = createElement("img", "colours");
    bar.src = `/colours/${encodeURIComponent(state.map)}.png`;
    bar.alt = "";
    const ends = createElement("div", "ends");
    const texts = [number(layer.low), layer.is_log ? "logarithmic" : "", number(layer.high)];
    ends.append(...texts.map((text) => createElement("span", "", text)));
    const lines = [...layer.label.split("\n"), ...(layer.note ? [layer.note] : [])].map((line) => createElement("p", "", line));
    this.legend.replaceChildren(createElement("h3", "", methodTitle(this.slide, state, method)), bar, ends, ...lines);
  }

  // Position of the slide's corner on the screen, and screen pixels per level-0 pixel.
  get transform() {
    const { viewport } = this.viewer;
    const corner = viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
    const right = viewport.pixelFromPoint(new OpenSeadragon.Point(1, 0), true);
    return { left: corner.x, top: corner.y, scale: (right.x - corner.x) / this.width };
  }

  draw() {
    if (!this.isOpen || this.element.hidden) return;
    const { transform } = this;
    drawMarks(this.canvas, transform, this.marks);
    const { mpp } = this.slide.image;
    this.bar.hidden = !mpp;
    if (!mpp) return;
    const [length, text] = scaleBar(mpp[0] / transform.scale, BAR_PX);
    this.length.style.width = `${length}px`;
    this.length.textContent = text;
  }

  // Level-0 pixel (x, y) at a position on the screen.
  at(clientX, clientY) {
    const frame = this.element.getBoundingClientRect();
    const { left, top, scale } = this.transform;
    return [(clientX - frame.left - left) / scale, (clientY - frame.top - top) / scale];
  }

  // Centre and width of the view, level-0 pixels.
  get visible() {
    const bounds = this.viewer.viewport.getBounds(true);
    const centre = bounds.getCenter();
    return { x: centre.x * this.width, y: centre.y * this.width, w: bounds.width * this.width };
  }

  // Show a position; the centre is kept on the slide, and the width within the zoom range.
  moveTo({ x, y, w }, immediately = false) {
    const { viewport } = this.viewer;
    const zoom = Math.min(viewport.getMaxZoom(), Math.max(viewport.getMinZoom(), this.width / w));
    const within = (value, max) => Math.min(max, Math.max(0, value)) / this.width;
    viewport.zoomTo(zoom, null, immediately);
    viewport.panTo(new OpenSeadragon.Point(within(x, this.width), within(y, this.height)), immediately);
  }

  // Wait until the viewer has the size of its element: until then it resizes with a zoom of its own.
  async whenResized() {
    const { viewport } = this.viewer;
    const isResized = () => Math.abs(viewport.getContainerSize().x - this.viewer.element.clientWidth) < 1;
    for (let frames = 0; frames < 60 && !isResized(); frames++) await new Promise(requestAnimationFrame);
  }

  // Show the whole slide, or its scanned area if that is only a part of the image (MRXS).
  home(immediately = false) {
    const { viewport } = this.viewer;
    if (!this.slide.image.bounds) return viewport.goHome(immediately);
    const [x, y, width, height] = this.slide.image.bounds.map((px) => px / this.width);
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
