// What is looked at, and the numbers that follow from it. Views read it and are told when it changes.

const MEASURES = {
  live: { title: "Live", hint: "bytes that are live at the end of the window", form: bytes },
  growth: { title: "Growth", hint: "live at the end of the window less live at its beginning", form: difference },
  allocated: { title: "Allocated", hint: "bytes allocated in the window, freed or not", form: bytes },
  blocks: { title: "Blocks", hint: "blocks that are live at the end of the window", form: count },
};

class Model {
  constructor(data) {
    this.data = data;
    this.listeners = [];
    const size = data.siteCount;
    const column = () => new Float64Array(size);
    // Of each site, in the window.
    this.live = column();
    this.liveBlocks = column();
    this.liveBefore = column();
    this.late = column();
    this.growth = column();
    this.allocated = column();
    this.allocatedBlocks = column();
    this.freed = column();
    this.freedBlocks = column();
    this.isShown = new Uint8Array(size);
    this.isFound = new Uint8Array(data.functions.count);
    this.siteNames = new Array(size);

    const kinds = new Set(data.sites.kind);
    const [measure] = Object.keys(this.measures);
    this.state = {
      ...this.firstWindow(),
      // A place in the scopes; -1 is everything.
      scope: -1,
      // Direct mappings are address space, in use or not: they would hide the heap.
      kind: kinds.has("heap") ? "heap" : "all",
      measure,
      query: "",
      frames: "own",
      site: -1,
    };
    this.first = { ...this.state };
    this.compute();
  }

  get measures() {
    return MEASURES;
  }

  firstWindow() {
    const { from_s: from, to_s: to } = this.data.window;
    return { from: this.edgeNear(from), to: Math.max(this.edgeNear(to), 0) };
  }

  /** The last edge that is not after `time`; -1 is the beginning. */
  edgeAt(time) {
    const times = this.data.edgeTimes;
    let edge = -1;
    while (edge + 1 < times.length && times[edge + 1] <= time + 1e-9) edge += 1;
    return edge;
  }

  /** The edge nearest to `time`; at 0 the beginning, even if an interval ends there too. */
  edgeNear(time) {
    if (time <= 0) return -1;
    const before = this.edgeAt(time);
    if (before + 1 >= this.data.edgeTimes.length) return before;
    return this.timeOf(before + 1) - time < time - this.timeOf(before) ? before + 1 : before;
  }

  timeOf(edge) {
    return this.data.edgeTimes[edge] ?? 0;
  }

  get lastEdge() {
    return this.data.edgeTimes.length - 1;
  }

  get spanS() {
    return this.timeOf(this.state.to) - this.timeOf(this.state.from);
  }

  get isWholeWindow() {
    return this.state.from === -1 && this.state.to >= this.lastEdge;
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  /** Changes what is looked at. */
  set(changes) {
    const before = this.state;
    this.state = { ...before, ...changes };
    this.state.from = Math.max(-1, Math.min(this.state.from, this.lastEdge - 1));
    this.state.to = Math.max(this.state.from + 1, Math.min(this.state.to, this.lastEdge));
    const changed = new Set(Object.keys(this.state).filter((it) => this.state[it] !== before[it]));
    if (changed.size === 0) return;
    if (changed.size > 1 || !changed.has("site")) this.compute();
    this.listeners.forEach((it) => it(changed));
  }

  /** Back to how the report was opened; the chosen site stays. */
  reset() {
    this.set({ ...this.first, measure: this.state.measure, frames: this.state.frames, site: this.state.site });
  }

  /** Which functions are shown as frames. */
  get tree() {
    return this.data.trees[this.state.frames];
  }

  compute() {
    this.find();
    this.computeSites();
    this.columns = this.measured();
    this.computeTree();
  }

  /** The place of a site's last point up to `edge`; -1 if it had none by then. */
  pointAt(site, edge) {
    const { start, edge: edges } = this.data.points;
    let low = start[site];
    let high = start[site + 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (edges[middle] <= edge) low = middle + 1;
      else high = middle;
    }
    return low > start[site] ? low - 1 : -1;
  }

  liveAt(site, edge) {
    const at = this.pointAt(site, edge);
    return at < 0 ? 0 : this.data.points.allocatedBytes[at] - this.data.points.freedBytes[at];
  }

  liveBlocksAt(site, edge) {
    const at = this.pointAt(site, edge);
    return at < 0 ? 0 : this.data.points.allocatedBlocks[at] - this.data.points.freedBlocks[at];
  }

  computeSites() {
    const { points } = this.data;
    const { from, to } = this.state;
    // Edges, not times: they are evenly spread, but for the last.
    const middle = from + Math.ceil((to - from) / 2);
    for (let site = 0; site < this.data.siteCount; site += 1) {
      const a = this.pointAt(site, from);
      const b = this.pointAt(site, to);
      const at = (column, point) => (point < 0 ? 0 : column[point]);
      const allocated = at(points.allocatedBytes, b);
      const freed = at(points.freedBytes, b);
      const allocatedBefore = at(points.allocatedBytes, a);
      const freedBefore = at(points.freedBytes, a);
      this.live[site] = allocated - freed;
      this.liveBefore[site] = allocatedBefore - freedBefore;
      this.growth[site] = this.live[site] - this.liveBefore[site];
      this.late[site] = this.live[site] - this.liveAt(site, middle);
      this.allocated[site] = allocated - allocatedBefore;
      this.freed[site] = freed - freedBefore;
      const blocks = at(points.allocatedBlocks, b);
      const freedBlocks = at(points.freedBlocks, b);
      this.liveBlocks[site] = blocks - freedBlocks;
      this.allocatedBlocks[site] = blocks - at(points.allocatedBlocks, a);
      this.freedBlocks[site] = freedBlocks - at(points.freedBlocks, a);
    }
  }

  /** Sums up the tree from its leaves. A site is at the node of its innermost frame. */
  computeTree() {
    const { sites, siteCount } = this.data;
    const { tree, columns } = this;
    const measure = this.ofSite;
    this.self = new Float64Array(tree.count);
    // Of each node of the tree, summed over the sites that are shown.
    this.sums = Object.fromEntries(Object.keys(columns).map((name) => [name, new Float64Array(tree.count)]));
    this.totals = Object.fromEntries(Object.keys(columns).map((name) => [name, 0]));
    Object.assign(this.totals, { shrunk: 0, sites: 0 });
    for (let site = 0; site < siteCount; site += 1) {
      if (!this.isShown[site]) continue;
      const node = tree.ofSite[site];
      this.totals.sites += sites.count[site];
      this.totals.shrunk += Math.min(measure[site], 0);
      if (node >= 0) this.self[node] += measure[site];
      for (const name in columns) {
        this.totals[name] += columns[name][site];
        if (node >= 0) this.sums[name][node] += columns[name][site];
      }
    }
    for (const sum of Object.values(this.sums)) {
      for (let node = tree.count - 1; node >= 0; node -= 1) {
        const above = tree.caller[node];
        if (above >= 0) sum[above] += sum[node];
      }
    }
  }

  /** What is summed up over the tree: of each site, the measures, how wide it is drawn, and by what the first is told. */
  measured() {
    const { live, growth, allocated, liveBlocks: blocks, late } = this;
    const rank = { live, growth, allocated, blocks }[this.state.measure];
    // Shrinking sites have no width in a flamegraph.
    const width = rank.map((it) => Math.max(it, 0));
    return { live, growth, allocated, blocks, late, width, rank };
  }

  /** The chosen measure of each site. */
  get ofSite() {
    return this.columns[this.state.measure];
  }

  /** A column's sum over all sites whose stacks pass through `node`; -1 is everything. */
  sum(name, node) {
    return node < 0 ? this.totals[name] : this.sums[name][node];
  }

  /** A site is shown if it is of the chosen processes and kind, and all words are in the names of its stack. */
  find() {
    const { data, state } = this;
    const key = [state.query, state.scope, state.kind].join("\n");
    if (key === this.foundKey) return;
    this.foundKey = key;
    const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
    this.isFound.fill(0);
    const isAdmitted = (site) =>
      (this.scope === null || this.scope.hasGroup.has(data.sites.process[site])) &&
      (state.kind === "all" || data.sites.kind[site] === state.kind);
    const found = words.map((it) => this.nodesWith(it));
    for (let site = 0; site < data.siteCount; site += 1) {
      const node = data.sites.node[site];
      const has = (nodes, word) => (node >= 0 && nodes[node]) || data.sites.via[site].includes(word);
      this.isShown[site] = isAdmitted(site) && found.every((it, at) => has(it, words[at])) ? 1 : 0;
    }
  }

  /** The nodes that have `word` in their name, or in that of a function that calls them; shown as frames or not. */
  nodesWith(word) {
    const { functions, nodes } = this.data;
    const isNamed = new Uint8Array(functions.count);
    for (let at = 0; at < functions.count; at += 1) {
      const name = functions.name[at].toLowerCase();
      if (name.includes(word) || functions.moduleName[at].toLowerCase().includes(word)) {
        isNamed[at] = 1;
        this.isFound[at] = 1;
      }
    }
    const found = new Uint8Array(nodes.count);
    for (let at = 0; at < nodes.count; at += 1) {
      found[at] = isNamed[nodes.func[at]] || (nodes.caller[at] >= 0 && found[nodes.caller[at]]) ? 1 : 0;
    }
    return found;
  }

  /** Whether a site has nothing to say: then it steps back, and comes last. */
  isQuiet() {
    return false;
  }

  /** The processes that are looked at; null: all. */
  get scope() {
    return this.data.scopes[this.state.scope] ?? null;
  }

  groupName(group) {
    return this.data.groups[group]?.name ?? "–";
  }

  /** How a site is called: by the function that wanted the memory. */
  siteName(site) {
    if (this.siteNames[site] === undefined) this.siteNames[site] = this.findName(site);
    return this.siteNames[site];
  }

  findName(site) {
    const { functions, trees } = this.data;
    const node = trees.own.ofSite[site];
    if (node < 0) return { name: "[no stack]", caller: "" };
    const above = trees.own.caller[node];
    const name = (it) => functions.name[trees.own.func[it]];
    return { name: name(node), caller: above < 0 ? "" : name(above) };
  }

  /** Frames of a site, innermost first. */
  stackOf(site) {
    const { nodes, sites } = this.data;
    const frames = [];
    for (let node = sites.node[site]; node >= 0; node = nodes.caller[node]) frames.push(nodes.frame[node]);
    return frames;
  }

  /** Live bytes of all sites that are shown, at each edge. */
  liveOverTime(isWanted = (site) => this.isShown[site]) {
    const { points, siteCount, edgeTimes } = this.data;
    const changes = new Float64Array(edgeTimes.length);
    for (let site = 0; site < siteCount; site += 1) {
      if (!isWanted(site)) continue;
      let before = 0;
      for (let at = points.start[site]; at < points.start[site + 1]; at += 1) {
        const now = points.allocatedBytes[at] - points.freedBytes[at];
        changes[points.edge[at]] += now - before;
        before = now;
      }
    }
    for (let edge = 1; edge < changes.length; edge += 1) changes[edge] += changes[edge - 1];
    return changes;
  }

  /** Whether a node holds more at the end of the window than in its middle: from -1 to 1. */
  heat(node) {
    const live = this.sum("live", node);
    const late = this.sum("late", node);
    const most = Math.max(live, live - late);
    return most > 0 ? late / most : 0;
  }
}
