// The images of a task: truth, reconstructions and errors with one zoom, one window and one error scale for all.
// What it shows is unpacked from the page itself; every state can be read from the data attributes of the viewer.

const colours = table(JSON.parse(document.getElementById("error-colours").textContent));
const greys = table(Array.from({length: 256}, (_, i) => [i, i, i]));
const MODES = [["both", "Images and errors"], ["images", "Images"], ["errors", "Errors"]];
const MOST_ZOOM = 32;

// 12 bits a pixel: all high bytes, then all low ones, deflated.
async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.data), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const half = planes.length / 2;
  return Float32Array.from({length: half}, (_, i) => packed.low + packed.step * (256 * planes[i] + planes[half + i]));
}

// 256 opaque colours as they lie in the memory of a picture.
function table(rgb) {
  return new Uint32Array(Uint8Array.from(rgb.flatMap(c => [...c, 255])).buffer);
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children); // as text where they are strings
  return made;
}

class Viewer {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.loaded = new Map();
    this.state = {image: Math.max(0, data.images.findIndex(image => image.rank === "median")), mode: "both", truth: false, cursor: null, zoom: 1, x: 0, y: 0};
    this.ends(data.low, data.high);
    this.build();
    this.show(this.state.image);
  }

  get image() { return this.data.images[this.state.image]; }

  async show(index) {
    this.state.image = index;
    this.state.cursor = null;
    this.state.top = this.image.top;
    this.reset();
    if (!this.loaded.has(index)) {
      const image = this.data.images[index];
      this.loaded.set(index, await Promise.all([image.truth, ...image.panels.map(p => p.error)].map(unpack)));
    }
    if (this.state.image !== index) return; // another was asked for meanwhile
    const [truth, ...errors] = this.loaded.get(index);
    this.truth = truth;
    this.errors = [null, ...errors];
    this.panels.forEach((panel, k) => {
      panel.score.textContent = k ? this.image.panels[k - 1].score : this.image.id;
      const shape = {width: this.image.width, height: this.image.height};
      panel.pictures = [0, 1].map(() => Object.assign(document.createElement("canvas"), shape));
      for (const canvas of panel.canvases) canvas.style.aspectRatio = `${shape.width} / ${shape.height}`;
    });
    this.changed = true;
    this.draw();
  }

  // Controls and panels; all text goes in as text.
  build() {
    const choice = (legend, options, chosen, change) => element("fieldset", {className: "choice"},
      element("legend", {}, legend),
      ...options.map(([value, text]) => {
        const input = element("input", {type: "radio", value, checked: value === chosen, name: `${this.root.id}-${legend}`});
        input.addEventListener("change", () => change(value));
        return element("label", {}, input, element("span", {}, text));
      }));
    const slider = (text, name, change) => {
      const input = element("input", {type: "range", min: 0, max: 1, step: "any", name});
      const output = element("output");
      input.addEventListener("input", () => change(Number(input.value)));
      this[name] = {input, output};
      return element("label", {className: "slider"}, element("span", {}, text), input, output);
    };
    const button = (text, title, press) => {
      const made = element("button", {type: "button", title}, text);
      if (text.length === 1) made.setAttribute("aria-label", title);
      made.addEventListener("click", press);
      return made;
    };
    const {images, least, most, windows, unit} = this.data;
    const span = most - least;
    const blink = button("Hold for truth", "Shows the truth in every place while it is held, as the key T does", () => {});
    for (const [event, on] of [["pointerdown", true], ["pointerup", false], ["pointerleave", false], ["pointercancel", false]])
      blink.addEventListener(event, () => this.blink(on));
    blink.addEventListener("keydown", e => { if (e.key === " " || e.key === "Enter") this.blink(true); });
    blink.addEventListener("keyup", () => this.blink(false));
    const bar = element("div", {className: "controls"});
    if (images.length > 1)
      bar.append(choice("Image", images.map((image, k) => [String(k), image.rank]), String(this.state.image), value => this.show(Number(value))));
    bar.append(
      choice("Show", MODES, "both", mode => { this.state.mode = mode; this.draw(); }),
      element("div", {className: "buttons"},
        button("−", "Zoom out", () => this.zoomBy(1 / 1.5)), button("+", "Zoom in", () => this.zoomBy(1.5)),
        button("Whole image", "Back to the whole image", () => { this.reset(); this.draw(); }), blink),
    );
    const sliders = element("div", {className: "controls"},
      slider("Level", "level", v => this.window(least + v * span, this.state.width)),
      slider("Window", "width", v => this.window(this.state.level, v ** 3 * span)), // fine where it is narrow
      slider("Errors up to", "top", v => { this.state.top = this.image.top * this.image.reach ** (2 * v - 1); this.changed = true; this.draw(); }),
    );
    sliders.append(element("div", {className: "buttons"}, ...windows.map(([name, low, high]) =>
      button(name, `Window ${format(low, unit)} to ${format(high, unit)}`, () => {
        this.ends(low, high);
        this.state.top = this.image.top;
        this.draw();
      }))));
    this.grid = element("div", {className: "panels", tabIndex: 0});
    this.grid.setAttribute("role", "group");
    this.grid.setAttribute("aria-label", "Linked images. Plus and minus zoom, arrows move, 0 shows the whole image, T the truth.");
    const names = [{label: "Truth"}, ...images[0].panels];
    this.panels = names.map(({label, colour}, k) => {
      const dot = element("span", {className: "dot"});
      dot.style.background = colour || "transparent";
      const score = element("small"), value = element("small", {className: "value"}, "\u00a0");
      const canvases = [element("canvas", {className: "shown"}), element("canvas", {className: "error"})];
      canvases.forEach((canvas, i) => {
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", i ? (k ? `Absolute error of ${label}` : "Scale of the errors") : label);
      });
      this.grid.append(element("figure", {}, element("figcaption", {}, element("strong", {}, dot, label), score), ...canvases, value));
      return {canvases, score, value};
    });
    this.scale = element("span", {className: "scale"});
    this.panels[0].canvases[1].after(this.scale);
    this.root.append(bar, this.grid, sliders);
    this.listen();
  }

  listen() {
    const grid = this.grid;
    const fingers = new Map();
    const at = e => { // the position in pixels of the image
      const box = e.target.getBoundingClientRect();
      const scale = this.scaleOf(box.width);
      return [this.state.x + (e.clientX - box.left - box.width / 2) / scale, this.state.y + (e.clientY - box.top - box.height / 2) / scale];
    };
    const onImage = e => e.target instanceof HTMLCanvasElement;
    grid.addEventListener("pointerdown", e => {
      if (!onImage(e) || (e.pointerType === "mouse" && e.button)) return;
      fingers.set(e.pointerId, [e.clientX, e.clientY]);
      e.target.setPointerCapture(e.pointerId);
    });
    grid.addEventListener("pointermove", e => {
      if (!onImage(e)) return;
      const before = fingers.get(e.pointerId);
      this.state.cursor = at(e).map(Math.floor);
      if (before) {
        const scale = this.scaleOf(e.target.clientWidth);
        if (fingers.size === 2) {
          const [other] = [...fingers].filter(([id]) => id !== e.pointerId).map(([, place]) => place);
          const apart = place => Math.hypot(place[0] - other[0], place[1] - other[1]);
          this.zoomBy(apart([e.clientX, e.clientY]) / Math.max(apart(before), 1), at(e));
        } else if (e.shiftKey) {
          const span = (this.data.most - this.data.least) / 300;
          this.window(this.state.level + (e.clientY - before[1]) * span, this.state.width + (e.clientX - before[0]) * span);
        } else this.move((before[0] - e.clientX) / scale, (before[1] - e.clientY) / scale);
        fingers.set(e.pointerId, [e.clientX, e.clientY]);
      }
      this.draw();
    });
    for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, e => fingers.delete(e.pointerId));
    grid.addEventListener("pointerleave", () => { this.state.cursor = null; this.draw(); });
    grid.addEventListener("dblclick", e => { if (onImage(e)) this.zoomBy(2, at(e)); });
    grid.addEventListener("wheel", e => {
      if (!onImage(e) || !(e.ctrlKey || e.metaKey)) return; // the page scrolls as ever
      e.preventDefault();
      this.zoomBy(2 ** (-e.deltaY / 200), at(e));
    }, {passive: false});
    grid.addEventListener("keydown", e => {
      if (e.ctrlKey || e.metaKey || e.altKey) return;
      const step = this.image.width / this.state.zoom / 10;
      const act = {
        "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5),
        "0": () => { this.reset(); this.draw(); }, "t": () => this.blink(true),
        ArrowLeft: () => this.move(-step, 0), ArrowRight: () => this.move(step, 0),
        ArrowUp: () => this.move(0, -step), ArrowDown: () => this.move(0, step),
      }[e.key];
      if (!act || (e.key.startsWith("Arrow") && this.state.zoom === 1)) return;
      e.preventDefault();
      act();
    });
    grid.addEventListener("keyup", e => { if (e.key === "t") this.blink(false); });
    new ResizeObserver(() => this.draw()).observe(grid);
  }

  // Screen pixels for a pixel of the image, on a canvas of this width.
  scaleOf(width) { return width / this.image.width * this.state.zoom; }

  reset() { Object.assign(this.state, {zoom: 1, x: this.image.width / 2, y: this.image.height / 2}); }

  zoomBy(factor, [x, y] = [this.state.x, this.state.y]) {
    const s = this.state, zoom = Math.min(Math.max(s.zoom * factor, 1), MOST_ZOOM);
    const kept = s.zoom / zoom; // the place under the pointer stays there
    s.x = x + (s.x - x) * kept;
    s.y = y + (s.y - y) * kept;
    s.zoom = zoom;
    this.move(0, 0);
  }

  move(dx, dy) {
    const s = this.state, {width, height} = this.image;
    const [w, h] = [width / s.zoom / 2, height / s.zoom / 2];
    s.x = Math.min(Math.max(s.x + dx, w), width - w);
    s.y = Math.min(Math.max(s.y + dy, h), height - h);
    this.draw();
  }

  ends(low, high) { this.window((low + high) / 2, high - low); }

  window(level, width) {
    Object.assign(this.state, {level, width: Math.max(width, (this.data.most - this.data.least) / 4095)});
    this.changed = true;
    this.draw();
  }

  blink(on) {
    if (on === this.state.truth) return;
    this.state.truth = on;
    this.changed = true;
    this.draw();
  }

  draw() {
    if (this.waiting || !this.truth) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    const s = this.state, {least, most, unit} = this.data, span = most - least;
    if (this.changed) this.colour();
    this.changed = false;
    this.root.dataset.mode = s.mode;
    for (const name of ["zoom", "x", "y", "level", "width", "top", "truth"]) this.root.dataset[name] = s[name];
    this.root.dataset.image = this.image.id;
    this.grid.classList.toggle("zoomed", s.zoom > 1);
    this.level.input.value = (s.level - least) / span;
    this.width.input.value = Math.cbrt(s.width / span);
    this.top.input.value = Math.log(s.top / this.image.top) / Math.log(this.image.reach) / 2 + 0.5;
    for (const name of ["level", "width", "top"]) {
      this[name].output.textContent = format(s[name], unit);
      this[name].input.setAttribute("aria-valuetext", format(s[name], unit));
    }
    this.scale.textContent = `error: 0 to ${format(s.top, unit)}`;
    for (const [k, panel] of this.panels.entries()) {
      panel.canvases.forEach((canvas, i) => {
        if (!canvas.clientWidth || (i && !k)) return;
        const ratio = window.devicePixelRatio || 1;
        canvas.width = Math.round(canvas.clientWidth * ratio);
        canvas.height = Math.round(canvas.clientHeight * ratio);
        const context = canvas.getContext("2d"), scale = this.scaleOf(canvas.width);
        context.imageSmoothingEnabled = scale < 4; // pixels are shown as pixels once they are large
        context.setTransform(scale, 0, 0, scale, canvas.width / 2 - s.x * scale, canvas.height / 2 - s.y * scale);
        context.drawImage(panel.pictures[i], 0, 0);
        if (s.cursor) {
          context.strokeStyle = "#ffd43b";
          context.lineWidth = 1.5 * ratio / scale;
          const side = Math.max(1, 7 * ratio / scale), rest = (side - 1) / 2;
          context.strokeRect(s.cursor[0] - rest, s.cursor[1] - rest, side, side);
        }
      });
      panel.value.textContent = this.valueOf(k) || "\u00a0";
    }
    const bar = this.panels[0].canvases[1];
    bar.width = colours.length;
    bar.height = 1;
    const strip = bar.getContext("2d").createImageData(colours.length, 1);
    new Uint32Array(strip.data.buffer).set(colours);
    bar.getContext("2d").putImageData(strip, 0, 0);
  }

  valueOf(k) {
    if (!this.state.cursor) return "";
    const [x, y] = this.state.cursor, {width, height} = this.image, {unit} = this.data;
    if (x < 0 || y < 0 || x >= width || y >= height) return "";
    const i = y * width + x;
    if (!k) return `${format(this.truth[i], unit)} at ${x}, ${y}`;
    const error = this.errors[k][i];
    return `${format(this.truth[i] + error, unit)} (${error < 0 ? "−" : "+"}${format(Math.abs(error), "")})`;
  }

  // Grey values and error colours of every pixel, kept until a window or a scale changes.
  colour() {
    const {level, width, top, truth} = this.state, low = level - width / 2;
    this.panels.forEach((panel, k) => {
      const error = this.errors[k];
      panel.pictures.forEach((picture, i) => {
        if (i && !k) return;
        const context = picture.getContext("2d"), pixels = context.createImageData(picture.width, picture.height);
        const found = new Uint32Array(pixels.data.buffer);
        const place = (value, most) => Math.min(255, Math.max(0, Math.round(255 * value / most)));
        for (let p = 0; p < found.length; p++) {
          if (i) found[p] = colours[place(Math.abs(error[p]), top)];
          else found[p] = greys[place(this.truth[p] + (error && !truth ? error[p] : 0) - low, width)];
        }
        context.putImageData(pixels, 0, 0);
      });
    });
  }
}

function format(value, unit) {
  const text = unit === "HU" || Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  return text.replace("-", "−") + (unit ? ` ${unit}` : "");
}

// Built when they come near, so that a page with many tasks opens at once.
const near = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    new Viewer(target, JSON.parse(document.getElementById(target.dataset.source).textContent));
  }
}, {rootMargin: "600px"});
for (const root of document.querySelectorAll(".viewer")) near.observe(root);
