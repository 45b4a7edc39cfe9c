// The table of sites.

class SiteTable {
  /** Columns beside the name: `of` says by what they are sorted, `form` how that is written, `fill` what else they show. */
  constructor(model, columns) {
    this.model = model;
    this.rows = [];
    this.sort = { key: model.state.measure, direction: -1 };
    this.columns = [
      { key: "name", title: "Site", hint: "the function that wanted the memory, and who called it", px: model.data.groups.length > 1 ? 165 : 230, grows: 1, fill: (site, cell) => this.fillName(site, cell) },
      ...columns.map((it) => ({ ...it, number: it.form !== undefined })),
    ].map((it) => ({ ...it, sort: it.key === "name" || it.of !== undefined }));
    this.grid = new Grid({
      label: "Sites",
      columns: this.columns,
      source: this,
      onSort: (column) => this.sortBy(column),
    });
    this.element = this.grid.element;
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
      const column = this.columns.find((it) => it.key === key);
      const by = column.by ?? column.of;
      const values = new Float64Array(model.data.siteCount);
      this.rows.forEach((site) => (values[site] = by(site)));
      // Equal ones in the order of the report.
      this.rows.sort((a, b) => model.isQuiet(a) - model.isQuiet(b) || direction * (values[a] - values[b]) || a - b);
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
    element_.classList.toggle("quiet", model.isQuiet(site));
    this.columns.forEach((column, at) => {
      const cell = cells[at];
      if (column.form) cell.textContent = column.form(column.of(site));
      column.fill?.(site, cell);
    });
  }

  fillName(site, cell) {
    const its = this.model.siteName(site);
    cell.classList.add("name");
    cell.append(...bareNameParts(its.name));
    if (its.caller) cell.append(element("span", { class: "caller" }, `← ${bareName(its.caller)}`));
    cell.title = its.caller ? `${its.name}\ncalled by ${its.caller}` : its.name;
  }
}

/** The table of a recording, but for the names. */
function siteColumns(model) {
  const { sites } = model.data;
  const column = (name) => (site) => model[name][site];
  const inRate = (site) => (model.spanS > 0 ? model.growth[site] / model.spanS : 0);
  const oldest = (site) => sites.oldest_s[site] ?? -1;
  const grows = (site, cell) => cell.classList.toggle("grows", stillGrows(model.live[site], model.late[site]));
  return [
    { key: "trend", title: "Trend", hint: "live bytes over the window", px: 78, fill: (site, cell) => cell.append(sparkline(model, site)) },
    { key: "live", title: "Live", hint: "live at the end of the window", px: 78, of: column("live"), form: bytes },
    ...(sites.live_low_bytes ? [errorColumn(model)] : []),
    { key: "growth", title: "Growth", hint: "live at the end of the window less live at its beginning", px: 88, of: column("growth"), form: difference, fill: grows },
    { key: "rate", title: "Rate", hint: "growth per second of the window", px: 92, of: inRate, form: rate },
    { key: "allocated", title: "Allocated", hint: "in the window", px: 78, of: column("allocated"), form: bytes },
    { key: "freed", title: "Freed", hint: "in the window", px: 78, of: column("freed"), form: bytes },
    { key: "blocks", title: "Blocks", hint: "live at the end of the window", px: 62, of: column("liveBlocks"), form: count },
    { key: "oldest", title: "Oldest", hint: "how long its oldest block had been live at the end of the recording", px: 82, of: oldest, form: (it) => (it < 0 ? "–" : seconds(it)) },
    verdictColumn(model, "over the whole recording", 86, ["freed", "short", "steady", "turnover", "replacing", "growing"]),
    ...(model.data.groups.length > 1 ? [processColumn(model)] : []),
  ];
}

/** Of what was live at the end of the recording. */
function errorColumn(model) {
  const { live_low_bytes: low, live_high_bytes: high } = model.data.sites;
  const error = (site) => (high[site] - low[site]) / 2;
  const fill = (site, cell) => {
    cell.title = `${bytes(low[site])} to ${bytes(high[site])}`;
  };
  return { key: "error", title: "±", hint: "live bytes are estimated from samples: at the end of the recording they were within this range, nineteen times of twenty", px: 78, of: error, form: (it) => `± ${bytes(it)}`, fill };
}

function processColumn(model) {
  const { sites } = model.data;
  const fill = (site, cell) => {
    const name = model.groupName(sites.process[site]);
    cell.textContent = name;
    cell.title = name;
  };
  return { key: "process", title: "Process", hint: "whose site it is", px: 92, of: (site) => -sites.process[site], fill };
}

/** `classes`: the last is first when sorted. */
function verdictColumn(model, hint, px, classes) {
  const { verdict, verdictClass } = model.data.sites;
  const fill = (site, cell) => {
    const [word] = verdict[site].split(/[:,]/);
    cell.append(element("span", { class: `verdict ${verdictClass[site]}`, title: verdict[site] }, word));
  };
  return { key: "verdict", title: "Verdict", hint, px, of: (site) => classes.indexOf(verdictClass[site]), fill };
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
