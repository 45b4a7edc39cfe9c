// The chosen site: its numbers in the window and its full stack.

class Detail {
  constructor(model, { reveal }) {
    this.model = model;
    this.reveal = reveal;
    this.element = element("aside", { class: "detail", "aria-label": "Chosen site", tabindex: "0" });
  }

  update() {
    const { site } = this.model.state;
    this.element.replaceChildren(...(site < 0 ? this.nothing() : this.contents(site)));
  }

  nothing() {
    return [element("p", { class: "hint" }, "Choose a site in the table, or a function in the flamegraph or the tree, to see its stack.")];
  }

  contents(site) {
    const { model } = this;
    const { sites } = model.data;
    const facts = [
      ...this.facts(site),
      ["Process", model.groupName(sites.process[site])],
      ["By", `${sites.via[site] || "–"} (${sites.kind[site]})`],
    ];
    return [
      element("h2", { title: model.siteName(site).name }, ...bareNameParts(model.siteName(site).name)),
      element("p", { class: `verdict-line ${sites.verdictClass[site]}` }, sites.verdict[site] || " "),
      this.picture(site),
      element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
      element(
        "p",
        { class: "actions" },
        element("button", { type: "button", onclick: () => this.reveal(site) }, "Show in flamegraph"),
        element("button", { type: "button", onclick: () => this.selectStack() }, "Select stack"),
      ),
      this.stack(site),
    ];
  }

  picture(site) {
    return bigSpark(this.model, site);
  }

  /** Names and values. */
  facts(site) {
    const { model } = this;
    const { sites } = model.data;
    const inRate = model.spanS > 0 ? `  (${rate(model.growth[site] / model.spanS)})` : "";
    const facts = [
      ["Live", `${bytes(model.live[site])} in ${plural(model.liveBlocks[site], "block")}`],
      ["Growth", `${difference(model.growth[site])}${inRate}`],
      ["Allocated", `${bytes(model.allocated[site])} in ${plural(model.allocatedBlocks[site], "block")}`],
      ["Freed", `${bytes(model.freed[site])} in ${plural(model.freedBlocks[site], "block")}`],
    ];
    const low = sites.live_low_bytes?.[site];
    if (low !== undefined) facts.splice(1, 0, ["Estimated", `${bytes(low)} to ${bytes(sites.live_high_bytes[site])} at the end of the recording, nineteen times of twenty`]);
    const merged = sites.merged?.[site] ?? 1;
    // Together they are known at the ends of intervals only.
    if (sites.count[site] === 1) facts.push(["Peak", `${merged > 1 ? "at least " : ""}${bytes(sites.peak_bytes[site])}`]);
    if (merged > 1) facts.push(["Merged", `of ${plural(merged, "site")}`]);
    const oldest = sites.oldest_s[site];
    if (oldest !== null) facts.push(["Oldest block", seconds(oldest)]);
    return facts;
  }

  /** All frames; several library frames in a row are behind a line that opens. */
  stack(site) {
    const { model } = this;
    const { frames, functions, sites } = model.data;
    const isLibrary = (frame) => functions.isPlumbing[frames.function[frame]] === 1;
    const isFrame = (frame) => functions.module[frames.function[frame]] !== "" || !functions.name[frames.function[frame]].startsWith("[");
    const items = [];
    let library = [];
    const close = () => {
      if (library.length === 1) items.push(this.frame(library[0]));
      else if (library.length > 1) items.push(this.folded(library));
      library = [];
    };
    for (const frame of model.stackOf(site).filter(isFrame)) {
      if (isLibrary(frame)) library.push(frame);
      else {
        close();
        items.push(this.frame(frame));
      }
    }
    close();
    if (sites.stop[site] !== "complete") {
      items.push(element("li", { class: "early" }, `The stack ends here too early: ${sites.stop[site].replaceAll("_", " ")}.`));
    }
    this.list = element("ol", { class: "stack", "aria-label": "Stack, innermost first" }, ...items);
    return this.list;
  }

  folded(library) {
    const attributes = this.model.state.frames === "all" ? { open: "" } : {};
    const lines = element("ol", {}, ...library.map((it) => this.frame(it)));
    return element("li", {}, element("details", attributes, element("summary", {}, `${count(library.length)} library frames`), lines));
  }

  frame(frame) {
    const { model } = this;
    const { frames, functions } = model.data;
    const func = frames.function[frame];
    const file = frames.file[frame];
    const line = frames.line[frame];
    const place = file === null ? "" : `${fileName(file)}${line === null ? "" : `:${line}`}`;
    const where = [place, functions.moduleName[func], frames.inlined[frame] ? "inlined" : ""].filter(Boolean).join("  ");
    const classes = [functions.isPlumbing[func] ? "plumbing" : "", model.isFound[func] ? "found" : ""].join(" ").trim();
    const full = `${functions.name[func]}\n${file ?? ""}\n${functions.module[func]}+0x${frames.offset[frame].toString(16)}`;
    return element("li", { class: classes, title: full }, ...nameParts(functions.name[func]), element("span", { class: "where" }, where));
  }

  /** To be copied by the browser's own means, which work in a file as well. */
  selectStack() {
    this.list.querySelectorAll("details").forEach((it) => (it.open = true));
    const range = document.createRange();
    range.selectNodeContents(this.list);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }
}

/** Live bytes over the whole recording, with the window. */
function bigSpark(model, site) {
  const [width, height] = [320, 56];
  const values = [0, ...model.liveOverTime((it) => it === site)];
  const most = Math.max(...values.length < 5000 ? values : [values.reduce((a, b) => Math.max(a, b), 0)], 1);
  const end = model.timeOf(model.lastEdge) || 1;
  const x = (edge) => ((model.timeOf(edge) / end) * width).toFixed(1);
  const line = values.map((value, at) => `${x(at - 1)},${(height - 1 - (value / most) * (height - 4)).toFixed(1)}`).join(" ");
  const [from, to] = [x(model.state.from), x(model.state.to)];
  return svg(
    "svg",
    { class: `spark big ${model.data.sites.verdictClass[site]}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `live bytes over time, at most ${bytes(most)}` },
    svg("rect", { class: "window", x: from, y: 0, width: Math.max(0, to - from), height }),
    svg("polygon", { points: `0,${height} ${line} ${width},${height}` }),
    svg("polyline", { points: line }),
  );
}
