// Before and after, side by side: what each recording is, what it holds, and the largest change between them.

/** Sites that changed beyond noise, the largest change first. */
function changedSites(model) {
  const changed = [];
  for (let site = 0; site < model.data.siteCount; site += 1) {
    if (model.isShown[site] && !model.isQuiet(site) && model.growth[site] !== 0) changed.push(site);
  }
  return changed;
}

/** How many changes are named behind the first. */
const FURTHER_CHANGES = 3;

function comparisonHeader(model, actions) {
  const { before, after } = model.data.comparison;
  document.title = `${fileName(before.path)} → ${fileName(after.path)} – alloctrace`;
  return element(
    "header",
    { class: "top" },
    element("h1", {}, "alloctrace"),
    element("span", { class: "about", title: `${before.path}\n${after.path}` }, `What changed from ${fileName(before.path)} to ${fileName(after.path)}`),
    ...actions,
  );
}

function comparisonLead(model) {
  const { before, after } = model.data.comparison;
  const badge = (title, { trust }) =>
    element(
      "p",
      { class: `trust grade-${trust.grade}` },
      element("b", { class: "grade", "aria-label": `Trust grade ${trust.grade}` }, trust.grade),
      element("span", {}, element("b", {}, `${title}: `), trust.meaning),
    );
  const isSame = before.trust.grade === after.trust.grade;
  const badges = isSame ? [badge("Both", after)] : [badge("Before", before), badge("After", after)];
  return element(
    "section",
    { class: "lead", "aria-label": "Summary" },
    element("div", {}, ...changeHeadline(model), ...comparisonNotes(model)),
    element("div", { class: "both" }, ...badges),
  );
}

function changeHeadline(model) {
  const name = (site) =>
    element(
      "button",
      { type: "button", class: "suspect", title: model.siteName(site).name, onclick: () => model.set({ site }) },
      ...bareNameParts(model.siteName(site).name),
    );
  const { totals, state } = model;
  const live = state.kind === "heap" ? "live heap" : "live";
  const total = `In all ${bytes(totals.before)} → ${bytes(totals.after)} ${live} (${difference(totals.change)})`;
  const [first, ...others] = changedSites(model);
  if (first === undefined) {
    return [element("p", { class: "headline" }, "No site changed by more than it moves within one recording."), element("p", { class: "also" }, `${total}.`)];
  }
  const change = model.growth[first];
  const [, became] = model.data.sites.verdict[first].split(": ");
  const headline = element(
    "p",
    { class: change > 0 ? "headline growing" : "headline shrinking" },
    name(first),
    " holds ",
    element("b", {}, `${bytes(Math.abs(change))} ${change > 0 ? "more" : "less"}`),
    `: ${bytes(model.liveBefore[first])} → ${bytes(model.live[first])}`,
    became ? `; ${became}` : "",
    ".",
  );
  // Sites of one function differ below it only.
  const called = (site) => model.siteName(site).name;
  const further = others.filter((it, at) => [first, ...others.slice(0, at)].every((above) => called(above) !== called(it))).slice(0, FURTHER_CHANGES);
  const also = further.flatMap((it, at) => [at === 0 ? ". Then " : ", ", name(it), ` ${difference(model.growth[it])}`]);
  return [headline, element("p", { class: "also" }, total, ...also, ".")];
}

/** What stands in the way of comparing the numbers. */
function comparisonNotes(model) {
  const { before, after, normalized, uneven } = model.data.comparison;
  const notes = [];
  if (normalized) notes.push(element("p", { class: "also" }, `Before is shown as it would be after ${seconds(after.duration_s)}.`));
  if (uneven) {
    const durations = `${seconds(before.duration_s)} and ${seconds(after.duration_s)}`;
    notes.push(element("p", { class: "also" }, `The durations differ, ${durations}: --normalize shows before as if it had lasted as long as after.`));
  }
  for (const [title, side] of [["before", before], ["after", after]]) {
    if (side.complete) continue;
    const upTo = `the recording from ${title} did not end properly. This is what it says up to ${seconds(side.duration_s)}.`;
    notes.push(element("p", { class: "cut", role: "status" }, element("b", {}, "CUT OFF: "), upTo));
  }
  return notes;
}

function comparisonFacts(model) {
  const { before, after } = model.data.comparison;
  const attributes = { class: "facts" };
  // What may be wrong is to be read before the numbers.
  if (before.trust.grade > "B" || after.trust.grade > "B") attributes.open = "";
  const column = (title, { path, target, host, started, duration_s: duration, trust }) =>
    element(
      "div",
      {},
      element("p", {}, element("b", {}, `${title}: `), `${path}, ${seconds(duration)} of ${target} on ${host}, ${when(started)}`),
      element("ul", { class: "losses", "aria-label": `Losses ${title.toLowerCase()}` }, ...lossesOf(trust)),
    );
  const brief = (title, { target, duration_s: duration, trust }) => [
    element("b", {}, title),
    `  ${seconds(duration)} of ${fit(target, 60)}, ${trust.losses.length === 0 ? "nothing lost" : `${plural(trust.losses.length, "kind")} of loss`}`,
  ];
  const details = element(
    "details",
    attributes,
    element("summary", {}, ...brief("Before", before), "  ·  ", ...brief("After", after)),
    element("div", { class: "columns even" }, column("Before", before), column("After", after)),
  );
  return element("section", { "aria-label": "Recordings and losses" }, details);
}

/** Stands where the timeline of one recording does: what is live before and after, of all that is shown. */
class Sides {
  constructor(model) {
    this.model = model;
    this.element = element("section", { class: "timeline", "aria-label": "Live before and after" });
  }

  start() {
    this.update();
  }

  update() {
    this.element.replaceChildren(sideBars(this.model, (site) => this.model.isShown[site] === 1));
  }

  /** It is made of elements, which follow the style sheet. */
  redraw() {}
}

/** Two bars on one scale: what both have, and by how much either has more. */
function sideBars(model, isWanted) {
  let [same, less, more] = [0, 0, 0];
  for (let site = 0; site < model.data.siteCount; site += 1) {
    if (!isWanted(site)) continue;
    const [before, after] = [model.liveBefore[site], model.live[site]];
    same += Math.min(before, after);
    less += Math.max(before - after, 0);
    more += Math.max(after - before, 0);
  }
  const most = Math.max(same + less, same + more, 1);
  const bar = (title, changed, looks, words) => {
    const part = (value, name) => {
      const it = element("i", { class: name });
      it.style.width = `${(Math.max(value, 0) / most) * 100}%`;
      return it;
    };
    return [
      element("span", { class: "side" }, title),
      element("span", { class: "track", "aria-hidden": "true" }, part(same, "steady"), part(changed, looks)),
      element("span", { class: "number" }, bytes(same + changed)),
      element("span", { class: "words" }, changed > 0 ? `${bytes(changed)} of it ${words}` : ""),
    ];
  };
  return element("div", { class: "sides" }, ...bar("Before", less, "shrinks", "gone"), ...bar("After", more, "grows", "new"));
}
