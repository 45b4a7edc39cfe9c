// Call trees: from the outermost function down, and from the function that allocates up to its callers.

/** What both trees do: rows are the open part of a tree of items, which have `level`, `key` and `callees`. */
class CallTree {
  constructor(model, label, columns) {
    this.model = model;
    this.rows = [];
    // Keys of open items; they stay open when the numbers change.
    this.open = new Set();
    const { functions } = model.data;
    const module = (item, cell) => {
      cell.textContent = functions.moduleName[item.func];
      cell.title = functions.module[item.func];
    };
    this.columns = [
      { key: "name", title: "Function", px: 240, grows: 1, hint: "by its largest first", fill: (item, cell, row) => this.fillName(item, cell, row) },
      ...columns,
      { key: "module", title: "Module", px: 130, hint: "the file that the function is in", fill: module },
    ];
    this.grid = new Grid({ label, isTree: true, columns: this.columns, source: this });
    this.element = this.grid.element;
    this.isFresh = true;
  }

  /** Builds the rows again from what is open. */
  update() {
    if (this.isFresh) this.openHeaviest();
    this.isFresh = false;
    this.rows = [];
    const stack = this.largestFirst(this.roots()).reverse();
    while (stack.length > 0) {
      const item = stack.pop();
      this.rows.push(item);
      if (this.open.has(item.key)) stack.push(...this.largestFirst(this.callees(item)).reverse());
    }
    this.grid.refresh();
  }

  largestFirst(items) {
    return items.filter((it) => it.sites > 0).sort((a, b) => b.sums.rank - a.sums.rank || b.sums.width - a.sums.width);
  }

  /** The way to the largest, so that nobody has to click through twenty levels. */
  openHeaviest() {
    let items = this.largestFirst(this.roots());
    for (let level = 0; level < this.firstLevels && items.length > 0; level += 1) {
      this.open.add(items[0].key);
      items = this.largestFirst(this.callees(items[0]));
    }
  }

  count() {
    return this.rows.length;
  }

  level(row) {
    return this.rows[row].level;
  }

  isOpen(row) {
    return this.hasCallees(this.rows[row]) ? this.open.has(this.rows[row].key) : null;
  }

  toggle(row) {
    const item = this.rows[row];
    if (!this.hasCallees(item)) return;
    if (this.open.has(item.key)) this.open.delete(item.key);
    else this.openChain(item);
    this.update();
  }

  /** Opens an item, and what is below it as long as there is no choice. */
  openChain(item) {
    for (;;) {
      this.open.add(item.key);
      const next = this.largestFirst(this.callees(item));
      if (next.length !== 1 || !this.hasCallees(next[0])) return;
      [item] = next;
    }
  }

  choose(row) {
    this.model.set({ site: this.heaviestSite(this.rows[row]) });
  }

  fill(row, cells, element_) {
    const item = this.rows[row];
    element_.classList.toggle("found", this.model.isFound[item.func] === 1);
    this.columns.forEach((column, at) => column.fill(item, cells[at], row));
  }

  fillName(item, cell, row) {
    const name = this.model.data.functions.name[item.func];
    const isOpen = this.isOpen(row);
    const fold = element("span", { class: "fold", "aria-hidden": "true" }, isOpen === null ? "" : isOpen ? "▾" : "▸");
    cell.classList.add("name");
    cell.style.paddingLeft = `${8 + Math.min(item.level, 40) * 12}px`;
    cell.append(fold, ...bareNameParts(name));
    cell.title = name;
  }
}

/** The numbers of a row. */
function treeColumns(model) {
  const form = (value) => model.measures[model.state.measure].form(value);
  const all = () => model.totals[model.state.measure];
  const share = (item, cell) => {
    cell.classList.add("share");
    cell.style.setProperty("--part", Math.max(0, Math.min(item.total / (all() || 1), 1)));
    cell.textContent = percent(item.total, all());
  };
  const growth = ({ sums }, cell) => {
    cell.textContent = difference(sums.growth);
    cell.classList.toggle("grows", stillGrows(sums.live, sums.late));
  };
  const text = (of) => (item, cell) => (cell.textContent = of(item));
  const columns = [
    { key: "share", title: "Share", px: 70, hint: "of all that is shown", fill: share },
    { key: "total", title: "Total", px: 88, hint: "with all that it calls", fill: text((it) => form(it.total)) },
    { key: "self", title: "Self", px: 88, hint: "allocated by itself", fill: text((it) => (it.self === 0 ? "–" : form(it.self))) },
    { key: "growth", title: "Growth", px: 90, hint: "live at the end of the window less live at its beginning", fill: growth },
    { key: "blocks", title: "Blocks", px: 76, hint: "live at the end of the window", fill: text((it) => count(it.sums.blocks)) },
  ];
  return columns.map((it) => ({ ...it, number: true }));
}

class TopDown extends CallTree {
  constructor(model, columns) {
    super(model, "Call tree, callers first", columns);
    this.firstLevels = 128;
  }

  roots() {
    return this.model.tree.roots.map((it) => this.item(it));
  }

  callees(item) {
    const { callees, calleeStart } = this.model.tree;
    return Array.from(callees.subarray(calleeStart[item.key], calleeStart[item.key + 1]), (it) => this.item(it));
  }

  hasCallees(item) {
    const { calleeStart } = this.model.tree;
    return calleeStart[item.key + 1] > calleeStart[item.key];
  }

  item(node) {
    const { sums: all, self, state, tree } = this.model;
    const sums = Object.fromEntries(Object.keys(all).map((name) => [name, all[name][node]]));
    return {
      key: node,
      func: tree.func[node],
      level: tree.depth[node],
      total: sums[state.measure],
      self: self[node],
      sums,
      sites: this.shownSites[node],
    };
  }

  update() {
    const { model } = this;
    const { tree } = model;
    // Keys are nodes of one tree.
    if (this.shownTree !== tree) this.open.clear();
    if (this.shownTree !== tree) this.isFresh = true;
    this.shownTree = tree;
    this.shownSites = new Int32Array(tree.count);
    for (let site = 0; site < model.data.siteCount; site += 1) {
      if (model.isShown[site] && tree.ofSite[site] >= 0) this.shownSites[tree.ofSite[site]] += 1;
    }
    for (let node = tree.count - 1; node >= 0; node -= 1) {
      if (tree.caller[node] >= 0) this.shownSites[tree.caller[node]] += this.shownSites[node];
    }
    super.update();
  }

  heaviestSite(item) {
    return heaviestSiteUnder(this.model, item.key);
  }
}

/** The site with the largest measure among those whose stack passes through `node`; -1 if there is none. */
function heaviestSiteUnder(model, node) {
  const { tree } = model;
  const { rank } = model.columns;
  let best = -1;
  for (let site = 0; site < model.data.siteCount; site += 1) {
    if (!model.isShown[site]) continue;
    let at = tree.ofSite[site];
    while (at > node) at = tree.caller[at];
    if (at === node && (best < 0 || rank[site] > rank[best])) best = site;
  }
  return best;
}

/** An item is all sites with the same innermost functions; `nodes` says how far up each of them is. */
class BottomUp extends CallTree {
  constructor(model, columns) {
    super(model, "Callers, allocating function first", columns);
    this.firstLevels = 3;
  }

  roots() {
    const { tree, data, isShown } = this.model;
    const at = [];
    for (let site = 0; site < data.siteCount; site += 1) {
      if (isShown[site] && tree.ofSite[site] >= 0) at.push([site, tree.ofSite[site]]);
    }
    return this.grouped(at, "", 0);
  }

  callees(item) {
    const { caller } = this.model.tree;
    item.callers ??= this.grouped(
      item.at.filter(([, node]) => caller[node] >= 0).map(([site, node]) => [site, caller[node]]),
      item.key,
      item.level + 1,
    );
    return item.callers;
  }

  hasCallees(item) {
    return item.at.some(([, node]) => this.model.tree.caller[node] >= 0);
  }

  grouped(at, keyAbove, level) {
    const { model } = this;
    const { columns, ofSite } = model;
    const items = new Map();
    for (const [site, node] of at) {
      const func = model.tree.func[node];
      let item = items.get(func);
      if (item === undefined) {
        const sums = Object.fromEntries(Object.keys(columns).map((name) => [name, 0]));
        item = { key: `${keyAbove}/${func}`, func, level, total: 0, self: 0, sums, sites: 0, at: [] };
        items.set(func, item);
      }
      item.total += ofSite[site];
      item.self += level === 0 ? ofSite[site] : 0;
      for (const name in columns) item.sums[name] += columns[name][site];
      item.sites += 1;
      item.at.push([site, node]);
    }
    return [...items.values()];
  }

  heaviestSite(item) {
    const { rank } = this.model.columns;
    return item.at.reduce((best, [site]) => (best < 0 || rank[site] > rank[best] ? site : best), -1);
  }
}
