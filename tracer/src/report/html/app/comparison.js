// Two recordings, before and after a change: what is measured, drawn and listed instead of what one recording has. A site
// has two points: the first is how it stood before, the second how it stands after.

const CHANGES = {
  change: { title: "Change", hint: "live after less live before", form: difference },
  before: { title: "Before", hint: "bytes that were live at the end of the recording from before", form: bytes },
  after: { title: "After", hint: "bytes that are live at the end of the recording from after", form: bytes },
  allocated: { title: "Allocated change", hint: "bytes allocated in the recording from after, freed or not, less those from before", form: difference },
};

class Changes extends Model {
  get measures() {
    return CHANGES;
  }

  firstWindow() {
    return { from: 0, to: 1 };
  }

  /** In both recordings, one column each. */
  sides() {
    if (this.state.measure !== "allocated") return [this.liveBefore, this.live];
    const { start, allocatedBytes } = this.data.points;
    const column = (edge) => Float64Array.from(this.live, (_, site) => allocatedBytes[start[site] + edge]);
    return [column(0), column(1)];
  }

  measured() {
    const { live: after, liveBefore: before, growth: change, allocated, allocatedBlocks, freedBlocks } = this;
    const { growth_before_bytes_per_s: growthBefore, growth_after_bytes_per_s: growthAfter } = this.data.sites;
    const [from, to] = this.sides();
    const { measure } = this.state;
    const larger = from.map((it, site) => Math.max(it, to[site], 0));
    const loud = to.map((_, site) => (this.isQuiet(site) ? 0 : 1));
    return {
      change,
      before,
      after,
      allocated,
      blocks: allocatedBlocks.map((it, site) => it - freedBlocks[site]),
      growthBefore,
      growthAfter,
      from,
      to,
      loud,
      // What has gone is as wide as it was.
      width: { before, after }[measure] ?? larger,
      rank: { before, after }[measure] ?? loud.map((it, site) => it * Math.abs(to[site] - from[site])),
    };
  }

  isQuiet(site) {
    return this.data.sites.noise[site] === 1;
  }

  /** By how much a node has changed; not at all, if all that has is noise. */
  changeOf(node) {
    return this.sum("loud", node) > 0 ? this.sum("to", node) - this.sum("from", node) : 0;
  }

  /** The change as a part of the larger side: from -1 to 1. */
  heat(node) {
    const most = Math.max(this.sum("from", node), this.sum("to", node));
    return most > 0 ? Math.max(-1, Math.min(this.changeOf(node) / most, 1)) : 0;
  }
}

class ChangesFlame extends Flame {
  legend() {
    const key = (name) => element("i", { class: `key ${name}` });
    return [key("shrinks"), "− less", key("steady"), "within noise", key("grows"), "+ more"];
  }

  label(node, room) {
    const change = this.model.changeOf(node);
    const name = this.nameOf(node);
    if (change === 0) return fit(name, room);
    // The colour alone would not tell everybody.
    const amount = difference(change);
    const rest = room - amount.length - 2;
    return rest >= Math.min(name.length, 12) ? `${amount}  ${fit(name, rest)}` : `${amount[0]} ${fit(name, room - 2)}`;
  }

  captionText() {
    const { totals, state, measures } = this.model;
    const { title } = measures[state.measure];
    if (totals.width <= 0) return `${title}: nothing to show`;
    const wide = { before: "before", after: "after" }[state.measure] ?? "the larger of before and after";
    return `${this.numbers(-1)}. As wide as ${wide}`;
  }

  numbers(node) {
    const { model } = this;
    const [from, to] = [model.sum("from", node), model.sum("to", node)];
    const what = model.state.measure === "allocated" ? "allocated" : "live";
    return `${bytes(from)} → ${bytes(to)} ${what} (${difference(to - from)})`;
  }
}

/** Colours a number by its sign; the sign is in the text too. */
function tint(cell, value) {
  cell.classList.toggle("grows", value > 0);
  cell.classList.toggle("shrinks", value < 0);
}

function bothRates(before, after) {
  return before === 0 && after === 0 ? "–" : `${rate(before)} → ${rate(after)}`;
}

function changedTreeColumns(model) {
  const text = (form, key) => ({ sums }, cell) => (cell.textContent = form(sums[key]));
  const change = ({ sums }, cell) => {
    cell.textContent = difference(sums.to - sums.from);
    tint(cell, sums.loud > 0 ? sums.to - sums.from : 0);
    cell.closest(".row").classList.toggle("quiet", sums.loud === 0);
  };
  const columns = [
    { key: "before", title: "Before", px: 84, hint: "before, with all that it calls", fill: text(bytes, "from") },
    { key: "after", title: "After", px: 84, hint: "after, with all that it calls", fill: text(bytes, "to") },
    { key: "change", title: "Change", px: 96, hint: "of all sites below it, noise as well", fill: change },
    { key: "blocks", title: "Blocks", px: 84, hint: "live blocks after less those before", fill: text((it) => difference(it, count), "blocks") },
    { key: "rates", title: "Growth", px: 172, hint: "how fast it grew before, and grows after", fill: ({ sums }, cell) => (cell.textContent = bothRates(sums.growthBefore, sums.growthAfter)) },
  ];
  return columns.map((it) => ({ ...it, number: true }));
}

function changedSiteColumns(model) {
  const { sites } = model.data;
  const column = (name) => (site) => model.columns[name][site];
  const size = (name) => (site) => Math.abs(model.columns[name][site]);
  const growthAfter = (site) => sites.growth_after_bytes_per_s[site];
  const rates = (site, cell) => (cell.textContent = bothRates(sites.growth_before_bytes_per_s[site], growthAfter(site)));
  const tinted = (site, cell) => tint(cell, model.isQuiet(site) ? 0 : model.growth[site]);
  return [
    { key: "before", title: "Before", hint: "live at the end of the recording from before", px: 82, of: column("before"), form: bytes },
    { key: "after", title: "After", hint: "live at the end of the recording from after", px: 82, of: column("after"), form: bytes },
    { key: "change", title: "Change", hint: "live after less live before; sorted by size, less or more", px: 92, of: column("change"), by: size("change"), form: difference, fill: tinted },
    { key: "blocks", title: "Blocks", hint: "live blocks after less those before; sorted by size, less or more", px: 78, of: column("blocks"), by: size("blocks"), form: (it) => difference(it, count) },
    { key: "allocated", title: "Allocated", hint: "bytes allocated after less those before; sorted by size, less or more", px: 92, of: column("allocated"), by: size("allocated"), form: difference },
    { key: "rates", title: "Growth", hint: "how fast it grew before, and grows after", px: 172, of: growthAfter, form: String, fill: rates },
    verdictColumn(model, "what became of it", 104, ["same", "less", "fixed", "more", "growing"]),
  ];
}

class ChangesDetail extends Detail {
  picture(site) {
    return sideBars(this.model, (it) => it === site);
  }

  facts(site) {
    const { live, liveBefore, liveBlocks, columns } = this.model;
    const { growth_before_bytes_per_s: before, growth_after_bytes_per_s: after } = this.model.data.sites;
    const blocks = columns.blocks[site];
    const [allocatedBefore, allocatedAfter] = [0, 1].map((edge) => this.model.data.points.allocatedBytes[this.model.data.points.start[site] + edge]);
    return [
      ["Before", `${bytes(liveBefore[site])} in ${plural(liveBlocks[site] - blocks, "block")}`],
      ["After", `${bytes(live[site])} in ${plural(liveBlocks[site], "block")}`],
      ["Change", `${difference(live[site] - liveBefore[site])} in ${difference(blocks, count)} blocks`],
      ["Growth", bothRates(before[site], after[site])],
      ["Allocated", `${bytes(allocatedBefore)} → ${bytes(allocatedAfter)}`],
    ];
  }
}

/** What the page of a comparison is made of. */
const COMPARISON = {
  Model: Changes,
  Timeline: Sides,
  Flame: ChangesFlame,
  Detail: ChangesDetail,
  treeColumns: changedTreeColumns,
  siteColumns: changedSiteColumns,
  summary: (model, actions) => [comparisonHeader(model, actions), comparisonLead(model), comparisonFacts(model)],
  firstSite: (model) => changedSites(model)[0] ?? -1,
  help: {
    escape: "back to everything, without search and zoom",
    keys: [],
    words:
      "A site is a call stack that allocates, the same in both recordings if the names along it are. Live is what it has allocated and not freed at the end of a recording. " +
      "A site is noise if it does not grow and the change is no larger than what its live bytes move by within the recordings; noise is dimmed and comes last.",
    built: (model) => `alloctrace ${model.data.tool_version}`,
  },
};
