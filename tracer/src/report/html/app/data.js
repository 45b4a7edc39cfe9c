// The block of JSON, as columns that can be computed with. Nothing in here changes later.

/** @returns {Promise<object>} see the end of this function */
async function readData() {
  const plain = JSON.parse(document.getElementById("data").textContent);
  const tables = await inflate(plain.tables);
  const strings = tables.strings;
  const text = (places) => places.map((it) => strings[it]);

  const functions = { name: text(tables.functions.name), module: text(tables.functions.module) };
  functions.count = functions.name.length;
  functions.moduleName = functions.module.map((it) => (it === "" ? "[anonymous]" : fileName(it)));
  functions.isPlumbing = Uint8Array.from(tables.functions.plumbing);

  const frames = tables.frames;
  frames.file = frames.file.map((it) => (it === null ? null : strings[it]));

  const nodes = readNodes(tables.nodes);
  nodes.func = Int32Array.from(nodes.frame, (it) => frames.function[it]);

  const sites = tables.sites;
  for (const column of ["kind", "via", "stop", "verdict"]) sites[column] = text(sites[column]);
  sites.verdictClass = text(sites.verdict_class);
  // -1: no stack.
  sites.node = Int32Array.from(sites.node, (it) => (it === null ? -1 : it));
  const treeOf = (isWanted) => {
    const tree = mergeByFunction(nodes, isWanted);
    tree.ofSite = sites.node.map((it) => (it < 0 ? -1 : tree.ofNode[it]));
    return tree;
  };
  let all = null;
  const trees = {
    // Without what nobody has written for this program. Outermost functions stay, so that no stack is empty.
    own: treeOf((node) => nodes.caller[node] < 0 || !functions.isPlumbing[nodes.func[node]]),
    // Seldom asked for.
    get all() {
      all ??= treeOf(() => true);
      return all;
    },
  };

  // A comparison knows names only.
  const groups = plain.groups ?? plain.processes.map(({ name }, at) => ({ name, processes: [at] }));
  return {
    ...plain,
    tables: null,
    groups,
    scopes: scopesOf(plain.processes, groups, plain.by),
    times: plain.times_s,
    // When each edge of the grid is; a window goes from edge to edge, and -1 is the beginning.
    edgeTimes: plain.edges.map((it) => plain.times_s[it]),
    functions,
    frames,
    nodes,
    trees,
    sites,
    siteCount: sites.id.length,
    points: readPoints(tables.points, sites.points),
    samples: tables.samples.map(readSamples),
  };
}

/** What the page can be narrowed to: groups of processes, those with something in common first, then by what they hold. */
function scopesOf(processes, groups, by) {
  const liveOf = (places) => places.reduce((sum, it) => sum + (processes[it].live_bytes ?? 0), 0);
  const scope = (title, its) => {
    const members = its.flatMap((it) => groups[it].processes);
    return { title, live: liveOf(members), hasGroup: new Set(its), hasProcess: new Set(members) };
  };
  const inOrder = (scopes) => scopes.sort((a, b) => b.live - a.live);
  /** Groups of one process each that have `key` in common. */
  const common = (word, key) => {
    const alike = new Map();
    groups.forEach((group, at) => {
      const value = processes[group.processes[0]]?.[key];
      if (value) alike.set(value, [...(alike.get(value) ?? []), at]);
    });
    // One that all have in common narrows nothing.
    const several = [...alike].filter(([, its]) => its.length > 1 && its.length < groups.length);
    return inOrder(several.map(([value, its]) => scope(`${word} ${value} (${count(its.length)} processes)`, its)));
  };
  const own = inOrder(groups.map(({ name }, at) => scope(name, [at])));
  return by === "process" ? [...common("command", "program"), ...common("cgroup", "cgroup"), ...own] : own;
}

async function inflate(base64) {
  const text = atob(base64);
  // `Uint8Array.from` with a function takes twenty times as long.
  const packed = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) packed[at] = text.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function readNodes(columns) {
  const size = columns.frame.length;
  const caller = new Int32Array(size);
  for (let at = 0; at < size; at += 1) caller[at] = columns.caller[at] === 0 ? -1 : at - columns.caller[at];
  return { count: size, caller, frame: Int32Array.from(columns.frame) };
}

/**
 * The tree that people look at: calls of one function from one caller are one node, whichever line they come from. A
 * caller comes before its callees, as in the nodes.
 */
function mergeByFunction(nodes, isWanted) {
  const caller = new Int32Array(nodes.count);
  const func = new Int32Array(nodes.count);
  const depth = new Int32Array(nodes.count);
  const ofNode = new Int32Array(nodes.count);
  const known = new Map();
  let size = 0;
  for (let node = 0; node < nodes.count; node += 1) {
    const above = nodes.caller[node] < 0 ? -1 : ofNode[nodes.caller[node]];
    if (!isWanted(node)) {
      ofNode[node] = above;
      continue;
    }
    const its = nodes.func[node];
    // Two numbers in one, below 2^53.
    const key = (above + 1) * 2 ** 24 + its;
    let place = known.get(key);
    if (place === undefined) {
      place = size;
      size += 1;
      known.set(key, place);
      caller[place] = above;
      func[place] = its;
      depth[place] = above < 0 ? 0 : depth[above] + 1;
    }
    ofNode[node] = place;
  }
  const tree = { count: size, ofNode };
  tree.caller = caller.slice(0, size);
  tree.func = func.slice(0, size);
  tree.depth = depth.slice(0, size);
  addCallees(tree);
  return tree;
}

/** The callees of node n are `callees[calleeStart[n] .. calleeStart[n + 1]]`; those of no node are the roots. */
function addCallees(tree) {
  const start = new Int32Array(tree.count + 1);
  tree.roots = [];
  for (let at = 0; at < tree.count; at += 1) {
    if (tree.caller[at] < 0) tree.roots.push(at);
    else start[tree.caller[at] + 1] += 1;
  }
  for (let at = 0; at < tree.count; at += 1) start[at + 1] += start[at];
  const next = start.slice();
  tree.callees = new Int32Array(start[tree.count]);
  for (let at = 0; at < tree.count; at += 1) {
    const above = tree.caller[at];
    if (above >= 0) {
      tree.callees[next[above]] = at;
      next[above] += 1;
    }
  }
  tree.calleeStart = start;
}

/** Totals since the attach; the points of site s are `start[s] .. start[s + 1]`. */
function readPoints(columns, counts) {
  const start = new Int32Array(counts.length + 1);
  for (let site = 0; site < counts.length; site += 1) start[site + 1] = start[site] + counts[site];
  const totals = (differences, Column) => {
    const column = new Column(differences.length);
    for (let site = 0; site < counts.length; site += 1) {
      let total = 0;
      for (let at = start[site]; at < start[site + 1]; at += 1) {
        total += differences[at];
        column[at] = total;
      }
    }
    return column;
  };
  return {
    start,
    edge: totals(columns.edge, Int32Array),
    allocatedBytes: totals(columns.allocated_bytes, Float64Array),
    allocatedBlocks: totals(columns.allocated_blocks, Float64Array),
    freedBytes: totals(columns.freed_bytes, Float64Array),
    freedBlocks: totals(columns.freed_blocks, Float64Array),
  };
}

function readSamples(columns) {
  let interval = 0;
  let rss = 0;
  const samples = { interval: [], rss: [] };
  columns.interval.forEach((ahead, at) => {
    interval += ahead;
    const change = columns.rss_bytes[at];
    if (change !== null) rss += change;
    samples.interval.push(interval);
    samples.rss.push(change === null ? null : rss);
  });
  return samples;
}
