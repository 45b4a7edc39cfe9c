// The flamegraph: callers above what they call, the largest at the left, as wide as their share.
//
// Why not a library: d3-flame-graph 5.0 was tried with 20,000 stacks of 20 frames (100,000 nodes). It takes 2.0 s for the first
// drawing, 0.4 s for new numbers and 1.5 s for a search, adds a style element that the policy forbids, and
// knows no keyboard.

const FLAME_ROW_PX = 19;

/** Narrower rectangles are left out: they cannot be seen. */
const MIN_WIDTH_PX = 0.6;

class Flame {
  constructor(model) {
    this.model = model;
    // The node that fills the width; -1 is everything.
    this.zoom = -1;
    this.at = -1;
    this.hovered = null;
    this.rects = [];
    this.canvas = element("canvas", { "aria-hidden": "true" });
    // Screen readers are told of the one frame that the keys have reached.
    this.voice = element("div", { id: "flame-voice", role: "treeitem", class: "unseen" });
    this.tip = element("div", { class: "tip", hidden: "" });
    this.plot = element(
      "div",
      { class: "flame", role: "tree", tabindex: "0", "aria-label": "Flamegraph", "aria-activedescendant": "flame-voice" },
      this.canvas,
      this.voice,
    );
    this.caption = element("span", { class: "caption" });
    this.unzoom = element("button", { type: "button", hidden: "", onclick: () => this.zoomTo(-1) }, "Reset zoom");
    const legend = element("span", { class: "legend" }, ...this.legend());
    this.element = element("div", { class: "flame-view" }, element("div", { class: "bar" }, this.caption, this.unzoom, legend), this.plot, this.tip);
    this.paint = onceAFrame(() => this.draw());
    this.plot.addEventListener("pointermove", (event) => this.onPointer(event));
    this.plot.addEventListener("pointerleave", () => this.hover(null));
    this.plot.addEventListener("click", (event) => this.onClick(event));
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
    this.plot.addEventListener("focus", () => this.paint());
    this.plot.addEventListener("blur", () => {
      this.tip.hidden = true;
      this.paint();
    });
    this.plot.addEventListener("scroll", () => (this.tip.hidden = true), { passive: true });
    new ResizeObserver(() => this.update()).observe(this.plot);
  }

  legend() {
    const key = (name) => element("i", { class: `key ${name}` });
    return ["in the window's second half: ", key("shrinks"), "shrank ", key("steady"), "steady ", key("grows"), "grew"];
  }

  width(node) {
    return this.model.sum("width", node);
  }

  /** Numbers or size are others now. */
  update() {
    if (this.plot.clientWidth === 0) return;
    // Nodes are those of one tree.
    if (this.shownTree !== this.model.tree) this.zoom = this.at = -1;
    this.shownTree = this.model.tree;
    if (this.zoom >= 0 && this.width(this.zoom) <= 0) this.zoom = -1;
    this.layOut();
    this.say();
    this.paint();
  }

  layOut() {
    const { tree } = this.model;
    const px = this.plot.clientWidth;
    this.rects = [];
    this.placeOf = new Map();
    const whole = this.width(this.zoom);
    const callers = [];
    for (let node = this.zoom; node >= 0; node = tree.caller[node]) callers.unshift(node);
    this.add(-1, 0, 0, px);
    if (whole <= 0) return;
    callers.forEach((node, at) => this.add(node, at + 1, 0, px));
    const stack = [[this.zoom, callers.length, 0]];
    while (stack.length > 0) {
      const [above, row, from] = stack.pop();
      let x = from;
      for (const node of this.calleesOf(above)) {
        const width = (this.width(node) / whole) * px;
        if (width < MIN_WIDTH_PX) break;
        this.add(node, row + 1, x, width);
        stack.push([node, row + 1, x]);
        x += width;
      }
    }
    this.byRow = [];
    this.rects.forEach((it) => (this.byRow[it.row] ??= []).push(it));
    this.byRow.forEach((it) => it.sort((a, b) => a.x - b.x));
  }

  add(node, row, x, width) {
    const rect = { node, row, x, width };
    this.rects.push(rect);
    this.placeOf.set(node, rect);
    if (node < 0) this.byRow = [[rect]];
  }

  calleesOf(node) {
    const { callees, calleeStart, roots } = this.model.tree;
    const all = node < 0 ? roots : callees.subarray(calleeStart[node], calleeStart[node + 1]);
    const { width } = this.model.sums;
    return Array.from(all)
      .filter((it) => width[it] > 0)
      .sort((a, b) => width[b] - width[a]);
  }

  nameOf(node) {
    if (node < 0) return "all";
    return this.model.data.functions.name[this.model.tree.func[node]];
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const px = this.plot.clientWidth;
    const rows = this.byRow?.length ?? 0;
    if (px === 0 || rows === 0) return;
    const height = rows * FLAME_ROW_PX + 1;
    this.canvas.width = Math.round(px * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = `${height}px`;
    const paint = this.canvas.getContext("2d");
    paint.scale(ratio, ratio);
    paint.font = style("--flame-font");
    paint.textBaseline = "middle";
    const looks = this.looks();
    const letter = paint.measureText("MMMMMMMMMM").width / 10;
    for (const rect of this.rects) this.drawRect(paint, rect, looks, letter);
    this.drawFrame(paint, this.hovered, looks.text, 1);
    if (this.plot.matches(":focus")) this.drawFrame(paint, this.placeOf.get(this.at), looks.focus, 2);
    this.drawCaption();
  }

  looks() {
    const rgb = (name) => [1, 3, 5].map((at) => parseInt(style(name).slice(at, at + 2), 16));
    return {
      shrinks: rgb("--shrinks"),
      steady: rgb("--steady"),
      grows: rgb("--grows"),
      text: style("--flame-text"),
      paper: style("--paper"),
      found: style("--found"),
      focus: style("--focus"),
      isSearch: this.model.state.query.trim() !== "",
    };
  }

  drawRect(paint, rect, looks, letter) {
    const { model } = this;
    const isFound = looks.isSearch && rect.node >= 0 && model.isFound[model.tree.func[rect.node]];
    const isAbove = this.zoom >= 0 && rect.row < this.placeOf.get(this.zoom).row;
    const width = Math.max(rect.width - (rect.width > 3 ? 1 : 0), 0.5);
    const y = rect.row * FLAME_ROW_PX;
    paint.globalAlpha = isAbove || (looks.isSearch && !isFound) ? 0.55 : 1;
    paint.fillStyle = isFound ? looks.found : this.colour(rect.node, looks);
    paint.fillRect(rect.x, y, width, FLAME_ROW_PX - 1);
    const room = Math.floor((rect.width - 7) / letter);
    paint.globalAlpha = isAbove ? 0.75 : 1;
    const text = room < 3 ? "" : this.label(rect.node, room);
    if (text) {
      paint.fillStyle = looks.text;
      paint.fillText(text, rect.x + 4, y + FLAME_ROW_PX / 2);
    }
    paint.globalAlpha = 1;
  }

  drawFrame(paint, rect, colour, line) {
    if (!rect) return;
    paint.strokeStyle = colour;
    paint.lineWidth = line;
    paint.strokeRect(rect.x + line / 2, rect.row * FLAME_ROW_PX + line / 2, Math.max(rect.width - 1 - line, 1), FLAME_ROW_PX - 1 - line);
  }

  /** From steady to growing or shrinking; half of all that is held, gained in half of the time, is the end of the scale. */
  colour(node, looks) {
    const heat = this.model.heat(node);
    const share = Math.min(Math.abs(heat) * 2, 1);
    const end = heat < 0 ? looks.shrinks : looks.grows;
    // Neighbours of the same colour are told apart by a shade.
    const shade = node < 0 ? 0 : ((this.model.tree.func[node] * 7) % 5) - 2;
    const mixed = looks.steady.map((it, at) => Math.round(it + (end[at] - it) * share + shade * 2));
    return `rgb(${mixed.join(",")})`;
  }

  /** What stands in a frame that has room for so many characters. */
  label(node, room) {
    return fit(this.nameOf(node), room);
  }

  drawCaption() {
    this.caption.textContent = this.captionText();
    this.unzoom.hidden = this.zoom < 0;
  }

  captionText() {
    const { totals, state, measures } = this.model;
    const { title, form } = measures[state.measure];
    const shrunk = totals.shrunk < 0 ? `; ${bytes(-totals.shrunk).replace("-", "")} by which others shrank have no width` : "";
    return totals.width > 0 ? `${title}: ${form(totals.width)}${shrunk}` : `${title}: nothing to show in this window`;
  }

  /** A frame's name and numbers. */
  describe(node) {
    const { tree, data } = this.model;
    const module = node < 0 ? "" : `  ${data.functions.moduleName[tree.func[node]]}`;
    return [this.nameOf(node), `${this.numbers(node)}${module}`];
  }

  numbers(node) {
    const { model } = this;
    const { form } = model.measures[model.state.measure];
    const share = percent(this.width(node), model.totals.width);
    return `${form(this.width(node))}  ${share}   growth ${difference(model.sum("growth", node))}`;
  }

  /** What screen readers are to know of the frame that the keys have reached. */
  say() {
    const node = this.placeOf.has(this.at) ? this.at : this.zoom;
    this.at = node;
    this.voice.setAttribute("aria-level", (this.placeOf.get(node)?.row ?? 0) + 1);
    this.voice.setAttribute("aria-label", this.describe(node).join(", "));
    this.voice.textContent = this.nameOf(node);
  }

  showTip(rect, x, y) {
    const [name, numbers] = this.describe(rect.node);
    this.tip.replaceChildren(element("b", {}, name), element("span", {}, numbers));
    this.tip.hidden = false;
    const room = this.element.clientWidth;
    const top = this.plot.offsetTop + y - this.plot.scrollTop;
    this.tip.style.left = `${Math.max(4, Math.min(x + 12, room - this.tip.offsetWidth - 4))}px`;
    this.tip.style.top = `${top + 14}px`;
  }

  rectAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const row = this.byRow[Math.floor(y / FLAME_ROW_PX)] ?? [];
    return [row.find((it) => x >= it.x && x < it.x + it.width) ?? null, x, y];
  }

  hover(rect, x, y) {
    const isSame = rect === this.hovered;
    this.hovered = rect;
    if (rect) this.showTip(rect, x, y);
    else this.tip.hidden = true;
    if (!isSame) this.paint();
  }

  onPointer(event) {
    this.hover(...this.rectAt(event));
  }

  onClick(event) {
    const [rect] = this.rectAt(event);
    if (!rect) return;
    this.at = rect.node;
    this.zoomTo(rect.node);
    if (rect.node >= 0) this.model.set({ site: heaviestSiteUnder(this.model, rect.node) });
  }

  zoomTo(node) {
    this.zoom = node;
    this.at = node;
    this.hover(null);
    this.update();
    this.plot.scrollTop = Math.max(0, (this.placeOf.get(node).row - 3) * FLAME_ROW_PX);
  }

  /** Shows the innermost function of a site. */
  reveal(site) {
    const node = this.model.tree.ofSite[site];
    if (node >= 0 && this.width(node) > 0) this.zoomTo(node);
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const rect = this.placeOf.get(this.at);
    const { tree } = this.model;
    const beside = (step) => this.byRow[rect.row][this.byRow[rect.row].indexOf(rect) + step]?.node;
    switch (event.key) {
      case "ArrowLeft":
        this.goTo(beside(-1));
        break;
      case "ArrowRight":
        this.goTo(beside(1));
        break;
      case "ArrowUp":
        this.goTo(this.at < 0 ? undefined : tree.caller[this.at]);
        break;
      case "ArrowDown":
        this.goTo(this.byRow[rect.row + 1]?.find((it) => it.node >= 0 && tree.caller[it.node] === this.at)?.node);
        break;
      case "Home":
        this.goTo(-1);
        break;
      case "Enter":
      case " ":
        this.zoomTo(this.at);
        if (this.at >= 0) this.model.set({ site: heaviestSiteUnder(this.model, this.at) });
        break;
      case "Backspace":
        this.zoomTo(this.zoom < 0 ? -1 : tree.caller[this.zoom]);
        break;
      case "Escape":
        // With nothing to undo here it resets the page.
        if (this.zoom < 0) return;
        this.zoomTo(-1);
        event.stopPropagation();
        break;
      default:
        return;
    }
    event.preventDefault();
  }

  goTo(node) {
    const rect = node === undefined ? undefined : this.placeOf.get(node);
    if (!rect) return;
    this.at = node;
    const y = rect.row * FLAME_ROW_PX;
    const room = this.plot.clientHeight;
    if (y < this.plot.scrollTop) this.plot.scrollTop = y;
    else if (y + FLAME_ROW_PX > this.plot.scrollTop + room) this.plot.scrollTop = y + FLAME_ROW_PX - room;
    this.say();
    this.showTip(rect, rect.x, y + FLAME_ROW_PX);
    this.paint();
  }
}
