// The table of sites.

class SiteTable {
  constructor(model) {
    this.model = model;
    this.rows = [];
    this.sort = { key: "live", direction: -1 };
    this.columns = [
      { key: "name", title: "Site", hint: "the function that wanted the memory, and who called it", px: 230, grows: 1, sort: true },
      { key: "trend", title: "Trend", hint: "live bytes over the window", px: 78 },
      { key: "live", title: "Live", hint: "live at the end of the window", px: 78, form: bytes },
      { key: "growth", title: "Growth", hint: "live at the end of the window less live at its beginning", px: 88, form: difference },
      { key: "rate", title: "Rate", hint: "growth per second of the window", px: 92, form: rate },
      { key: "allocated", title: "Allocated", hint: "in the window", px: 78, form: bytes },
      { key: "freed", title: "Freed", hint: "in the window", px: 78, form: bytes },
      { key: "blocks", title: "Blocks", hint: "live at the end of the window", px: 62, form: count },
      { key: "oldest", title: "Oldest", hint: "how long its oldest block had been live at the end of the recording", px: 82, form: (it) => (it < 0 ? "–" : seconds(it)) },
      { key: "verdict", title: "Verdict", hint: "over the whole recording", px: 86, sort: true },
    ];
    this.columns.filter((it) => it.form).forEach((it) => Object.assign(it, { number: true, sort: true }));
    this.grid = new Grid({
      label: "Sites",
      columns: this.columns,
      source: this,
      onSort: (column) => this.sortBy(column),
    });
    this.element = this.grid.element;
  }

  /** By which numbers the columns are sorted; larger is first at the first press. */
  value(key, site) {
    const { model } = this;
    switch (key) {
      case "rate":
        return model.spanS > 0 ? model.growth[site] / model.spanS : 0;
      case "blocks":
        return model.liveBlocks[site];
      case "oldest":
        return model.data.sites.oldest_s[site] ?? -1;
      case "verdict":
        return ["freed", "short", "steady", "turnover", "replacing", "growing"].indexOf(model.data.sites.verdictClass[site]);
      default:
        return model[key][site];
    }
  }

  sortBy(column) {
    const isSame = this.sort.key === column.key;
    this.sort = { key: column.key, direction: isSame ? -this.sort.direction : column.key === "name" ? 1 : -1 };
    this.update();
  }

  /** The measure above all views is also the order here. */
  followMeasure(measure) {
    this.sort = { key: measure, direction: -1 };
  }

  update() {
    const { model } = this;
    const { key, direction } = this.sort;
    this.rows = [];
    for (let site = 0; site < model.data.siteCount; site += 1) if (model.isShown[site]) this.rows.push(site);
    if (key === "name") {
      const name = (site) => model.siteName(site).name;
      this.rows.sort((a, b) => direction * (name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : a - b));
    } else {
      const values = new Float64Array(model.data.siteCount);
      this.rows.forEach((site) => (values[site] = this.value(key, site)));
      // Equal ones in the order of the report.
      this.rows.sort((a, b) => direction * (values[a] - values[b]) || a - b);
    }
    this.grid.showSort(key, direction);
    const chosen = this.rows.indexOf(model.state.site);
    if (chosen >= 0) this.grid.at = chosen;
    this.grid.refresh();
  }

  showChosen() {
    const row = this.rows.indexOf(this.model.state.site);
    if (row >= 0) this.grid.goTo(row, false);
    this.grid.refresh();
  }

  count() {
    return this.rows.length;
  }

  choose(row) {
    this.model.set({ site: this.rows[row] });
  }

  fill(row, cells, element_) {
    const { model } = this;
    const site = this.rows[row];
    element_.setAttribute("aria-selected", site === model.state.site);
    this.columns.forEach((column, at) => {
      const cell = cells[at];
      if (column.form) cell.textContent = column.form(this.value(column.key, site));
    });
    const [name, trend] = cells;
    const its = model.siteName(site);
    name.classList.add("name");
    name.append(...bareNameParts(its.name));
    if (its.caller) name.append(element("span", { class: "caller" }, `← ${bareName(its.caller)}`));
    name.title = its.caller ? `${its.name}\ncalled by ${its.caller}` : its.name;
    trend.append(sparkline(model, site));
    const growth = cells[3];
    growth.classList.toggle("grows", stillGrows(model.live[site], model.late[site]));
    const verdict = cells[9];
    const [word] = model.data.sites.verdict[site].split(/[:,]/);
    verdict.append(element("span", { class: `verdict ${model.data.sites.verdictClass[site]}`, title: model.data.sites.verdict[site] }, word));
  }
}

/** Whether a share that shows of what is live came in the second half of the window. */
function stillGrows(live, late) {
  return late > 0.05 * live;
}

const SPARK_POINTS = 32;

/** Live bytes of a site over the window. */
function sparkline(model, site, width = 64, height = 16) {
  const { from, to } = model.state;
  const steps = Math.min(SPARK_POINTS, to - from);
  const values = [];
  for (let at = 0; at <= steps; at += 1) values.push(model.liveAt(site, from + Math.round(((to - from) * at) / steps)));
  const most = Math.max(...values, 1);
  const point = (value, at) => `${((at / steps) * width).toFixed(1)},${(height - 1 - (value / most) * (height - 2)).toFixed(1)}`;
  const line = values.map(point).join(" ");
  return svg(
    "svg",
    { class: `spark ${model.data.sites.verdictClass[site]}`, viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
    svg("polygon", { points: `0,${height} ${line} ${width},${height}` }),
    svg("polyline", { points: line }),
  );
}
