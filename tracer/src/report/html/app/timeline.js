// Live bytes and resident memory over the recording, by uPlot. A stretch of it, drawn with the pointer, is the window that
// all views are about.

class Timeline {
  constructor(model) {
    this.model = model;
    this.times = [0, ...model.data.edgeTimes];
    this.readout = element("span", { class: "readout" });
    this.siteKey = element("span", { class: "series", hidden: "" });
    this.from = this.input("from", (time) => ({ from: model.edgeNear(time) }));
    this.to = this.input("to", (time) => ({ to: model.edgeNear(time) }));
    this.whole = element("button", { type: "button", onclick: () => this.selectAll() }, "Whole recording");
    this.clock = element("span", { class: "clock" });
    this.plot = element("div", {
      class: "plot",
      role: "group",
      tabindex: "0",
      "aria-label": "Timeline: arrow keys move the window, with shift its end, up and down its beginning",
    });
    this.element = element(
      "section",
      { class: "timeline", "aria-label": "Timeline" },
      element(
        "div",
        { class: "bar" },
        element("span", { class: "series" }, element("i", { class: "key live" }), "live"),
        element("span", { class: "series" }, element("i", { class: "key rss" }), "RSS"),
        this.siteKey,
        this.readout,
        element("span", { class: "window" }, "Window ", this.from, " to ", this.to, " s ", this.whole, this.clock),
      ),
      this.plot,
    );
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
    this.brush = onceAFrame(() => this.takeSelection());
    this.resize = onceAFrame(() => this.fitWidth());
  }

  input(name, change) {
    return element("input", {
      type: "number",
      step: "any",
      min: "0",
      "aria-label": `${name}, in seconds`,
      onchange: (event) => {
        const time = Number(event.target.value);
        if (event.target.value !== "" && Number.isFinite(time)) this.model.set(change(time));
        this.showWindow();
      },
    });
  }

  /** Once the element is in the page. */
  start() {
    // A line needs two points; with fewer they are seen as such.
    const points = { show: this.times.length < 4, size: 4 };
    const line = (name, width, more = {}) => ({ stroke: () => style(name), width, points, ...more });
    this.chart = new uPlot(
      {
        width: this.plot.clientWidth,
        height: 136,
        legend: { show: false },
        // Seconds since tracing began, not a date.
        scales: { x: { time: false, range: [0, this.times.at(-1) || 1] }, y: { range: (_, __, most) => [0, (most || 1) * 1.08] } },
        cursor: {
          y: false,
          drag: { x: true, y: false, setScale: false },
          bind: { dblclick: () => () => this.selectAll() },
          points: { size: 5 },
        },
        series: [{}, line("--rss", 1.25), line("--live", 1.75, { fill: () => style("--live-fill") }), line("--grows-line", 1.75)],
        axes: [this.timeAxis(), this.bytesAxis()],
        hooks: {
          // Before, it has no size to draw a selection in.
          ready: [() => this.showWindow()],
          setCursor: [() => this.onCursor()],
          setSelect: [() => this.takeSelection()],
          draw: [(chart) => this.drawEvents(chart)],
        },
      },
      this.series(),
      this.plot,
    );
    this.chart.over.addEventListener("pointerdown", () => (this.isBrushing = true));
    window.addEventListener("pointerup", () => (this.isBrushing = false));
    new ResizeObserver(this.resize).observe(this.plot);
  }

  axis() {
    return {
      stroke: () => style("--muted"),
      grid: { stroke: () => style("--line"), width: 1 },
      ticks: { show: false },
      font: style("--axis-font"),
    };
  }

  timeAxis() {
    const span = this.times.at(-1);
    return { ...this.axis(), size: 24, space: 80, values: (_, ticks) => ticks.map((it) => tick(it, span)) };
  }

  bytesAxis() {
    const powers = Array.from({ length: 50 }, (_, at) => 2 ** at);
    return { ...this.axis(), size: 66, space: 32, incrs: powers, values: (_, ticks) => ticks.map((it) => (it === 0 ? "0" : bytes(it).replace(".0 ", " "))) };
  }

  /** uPlot's columns: times, RSS, live, and live of the chosen site. */
  series() {
    const { model } = this;
    const { site } = model.state;
    const live = [0, ...model.liveOverTime()];
    const chosen = site < 0 ? this.times.map(() => null) : [0, ...model.liveOverTime((it) => it === site)];
    return [this.times, this.rss(), live, chosen];
  }

  /** The processes' sum; where none of them has a sample there is a gap. */
  rss() {
    const { data, scope } = this.model;
    const sums = new Array(data.times.length).fill(null);
    data.samples.forEach((samples, process) => {
      if (scope !== null && !scope.hasProcess.has(process)) return;
      samples.interval.forEach((interval, at) => {
        if (samples.rss[at] !== null) sums[interval] = (sums[interval] ?? 0) + samples.rss[at];
      });
    });
    return [null, ...data.edges.map((it) => sums[it])];
  }

  update(changed) {
    if (!changed || ["scope", "kind", "query", "site"].some((it) => changed.has(it))) this.chart.setData(this.series());
    this.showWindow();
  }

  /** Colours are asked for when it is drawn. */
  redraw() {
    this.chart.redraw(false, true);
  }

  fitWidth() {
    const width = this.plot.clientWidth;
    if (width === 0 || width === this.chart.width) return;
    this.chart.setSize({ width, height: this.chart.height });
    this.showWindow();
  }

  showWindow() {
    const { model, chart } = this;
    const [from, to] = [model.timeOf(model.state.from), model.timeOf(model.state.to)];
    if (chart?.status === 1 && !this.isBrushing) {
      const left = chart.valToPos(from, "x");
      const shown = !model.isWholeWindow;
      chart.setSelect(
        { left: shown ? left : 0, top: 0, width: shown ? chart.valToPos(to, "x") - left : 0, height: chart.over.clientHeight },
        false,
      );
    }
    this.from.value = +from.toFixed(3);
    this.to.value = +to.toFixed(3);
    this.from.max = this.to.max = this.times.at(-1);
    this.whole.disabled = model.isWholeWindow;
    this.clock.textContent = this.clockTimes(from, to);
    const { site } = model.state;
    this.siteKey.hidden = site < 0;
    if (site >= 0) this.siteKey.replaceChildren(element("i", { class: "key site" }), fit(model.siteName(site).name, 40));
  }

  /** By the clock of the machine that was traced, for those who compare with logs. */
  clockTimes(from, to) {
    const start = Date.parse(this.model.data.capture.started);
    if (!Number.isFinite(start)) return "";
    const clock = (time) => new Date(start + time * 1000).toISOString().slice(11, 19);
    return `${clock(from)} – ${clock(to)} UTC`;
  }

  onCursor() {
    const { chart } = this;
    const at = chart?.cursor.idx;
    if (this.isBrushing) this.brush();
    if (at === null || at === undefined) {
      this.readout.textContent = "";
      return;
    }
    const [, rss, live, site] = chart.data;
    const parts = [`at ${seconds(this.times[at])}`, `live ${bytes(live[at])}`];
    if (rss[at] !== null) parts.push(`RSS ${bytes(rss[at])}`);
    if (site[at] !== null) parts.push(`chosen site ${bytes(site[at])}`);
    this.readout.textContent = parts.join("   ");
  }

  /** A click without a movement selects nothing, and so changes nothing. */
  takeSelection() {
    const { chart, model } = this;
    const { left, width } = chart.select;
    if (width < 3) {
      this.isBrushing = false;
      this.showWindow();
      return;
    }
    const from = model.edgeNear(chart.posToVal(left, "x"));
    const to = model.edgeNear(chart.posToVal(left + width, "x"));
    model.set({ from: Math.min(from, to - 1), to });
  }

  selectAll() {
    this.isBrushing = false;
    this.model.set({ from: -1, to: this.model.lastEdge });
    this.showWindow();
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { model } = this;
    const { from, to } = model.state;
    const step = Math.max(1, Math.round(model.lastEdge / 100));
    const along = { ArrowLeft: -step, ArrowRight: step }[event.key];
    if (along !== undefined && event.shiftKey) model.set({ to: Math.max(from + 1, to + along) });
    else if (along !== undefined) this.move(along);
    else if (event.key === "ArrowUp") model.set({ from: from - step });
    else if (event.key === "ArrowDown") model.set({ from: Math.min(from + step, to - 1) });
    else if (event.key === "Home") model.set({ from: -1 });
    else if (event.key === "End") model.set({ to: model.lastEdge });
    else return;
    event.preventDefault();
  }

  move(along) {
    const { model } = this;
    const { from, to } = model.state;
    const possible = Math.max(-1 - from, Math.min(along, model.lastEdge - to));
    model.set({ from: from + possible, to: to + possible });
  }

  /** Marks, kills and ends, each as a line with a word. */
  drawEvents(chart) {
    const { data } = this.model;
    const events = [
      ...data.marks.map((it) => ({ time: it.t_s, text: it.label || "mark", colour: "--mark" })),
      ...data.ooms.map((it) => ({ time: it.t_s, text: `OOM kill ${it.pid}`, colour: "--bad" })),
      ...data.processes
        .filter((it) => it.ended && it.ended.how !== "oom-kill" && data.processes.length <= 8)
        .map((it) => ({ time: it.ended.t_s, text: `${it.pid} ended`, colour: "--muted" })),
    ].sort((a, b) => a.time - b.time);
    const { ctx, bbox } = chart;
    const ratio = uPlot.pxRatio;
    ctx.save();
    ctx.font = style("--axis-font").replace(/([\d.]+)px/, (_, px) => `${px * ratio}px`);
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 3 * ratio]);
    // Where the last word ends: those that would stand on it are left out, their lines are not.
    let taken = -Infinity;
    for (const { time, text, colour } of events) {
      const x = Math.round(chart.valToPos(time, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width + 1) continue;
      ctx.strokeStyle = ctx.fillStyle = style(colour);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const isRight = x > bbox.left + bbox.width * 0.85;
      ctx.textAlign = isRight ? "right" : "left";
      ctx.textBaseline = "top";
      const width = ctx.measureText(text).width + 8 * ratio;
      const left = isRight ? x - width : x;
      if (left < taken) continue;
      taken = left + width;
      ctx.fillText(text, x + (isRight ? -4 : 4) * ratio, bbox.top + 2 * ratio);
    }
    ctx.restore();
  }
}
