// What was recorded, how far to believe it, and the first thing to look at.

/** The heap sites to look at first: what grows to the end, fastest first; otherwise what holds most. */
function suspects(model) {
  const { sites, siteCount, suspects: growing } = model.data;
  if (growing.length > 0) return growing.map((it) => ({ site: sites.id.indexOf(it.site), growth: it.growth_bytes_per_s }));
  const held = (site) => model.liveAt(site, model.lastEdge);
  let most = -1;
  for (let site = 0; site < siteCount; site += 1) {
    if (sites.kind[site] !== "heap" || sites.count[site] > 1 || held(site) <= 0) continue;
    if (most < 0 || held(site) > held(most)) most = site;
  }
  return most < 0 ? [] : [{ site: most, growth: null }];
}

function headline(model) {
  const { data } = model;
  const [first, ...others] = suspects(model);
  if (data.times.length === 0) {
    return element("p", { class: "headline" }, data.capture.complete ? "Nothing was recorded." : "The recording was cut off before its first interval: it says nothing.");
  }
  if (first === undefined) {
    return element("p", { class: "headline" }, "No heap memory is held: every block that was allocated has been freed again.");
  }
  const name = ({ site }) =>
    element(
      "button",
      { type: "button", class: "suspect", title: model.siteName(site).name, onclick: () => model.set({ site }) },
      ...bareNameParts(model.siteName(site).name),
    );
  const { site, growth } = first;
  // Of the whole recording, whatever window is shown below.
  const live = (it) => model.liveAt(it, model.lastEdge);
  const all = data.sites.kind.reduce((sum, kind, at) => sum + (kind === "heap" ? live(at) : 0), 0);
  const held = `${bytes(live(site))} in ${plural(model.liveBlocksAt(site, model.lastEdge), "block")}, ${percent(live(site), all)} of the live heap`;
  const verdict = data.sites.verdict[site];
  if (growth === null) {
    const none = data.sites.verdictClass[site] === "short" ? "Too short to judge what grows. " : "No site grows to the end. ";
    return element("p", { class: "headline" }, none, name(first), ` holds most: ${held}${data.sites.verdictClass[site] === "short" ? "" : ` (${verdict})`}.`);
  }
  const [, kept] = verdict.split(": ");
  // Sites of one function differ below it only.
  const named = (it) => model.siteName(it.site).name;
  const further = others.filter((it, at) => [first, ...others.slice(0, at)].every((before) => named(before) !== named(it)));
  const also = further.flatMap((it, at) => [at === 0 ? "Also growing: " : ", ", name(it), " by ", element("b", {}, rate(it.growth))]);
  return element(
    "div",
    {},
    element("p", { class: "headline growing" }, name(first), " grows by ", element("b", {}, rate(growth)), ` to the end: ${held}`, kept ? `; ${kept}` : "", "."),
    also.length > 0 ? element("p", { class: "also growing" }, ...also, ".") : null,
  );
}

function headerOf(model, actions) {
  const { capture } = model.data;
  document.title = `${capture.target} – alloctrace`;
  const about = `${capture.target} on ${capture.host}, ${when(capture.started)}, ${seconds(capture.duration_s)} of tracing`;
  return element(
    "header",
    { class: "top" },
    element("h1", {}, "alloctrace"),
    element("span", { class: "about", title: `${capture.target}\n${capture.path}\nKernel ${capture.kernel}, alloctrace ${capture.tool_version}` }, about),
    ...actions,
  );
}

function when(started) {
  const time = new Date(started);
  return Number.isNaN(time.getTime()) ? started : `${time.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function lead(model) {
  const { trust, capture, times } = model.data;
  const badge = element(
    "p",
    { class: `trust grade-${trust.grade}` },
    element("b", { class: "grade", "aria-label": `Trust grade ${trust.grade}` }, trust.grade),
    element("span", {}, trust.meaning),
  );
  const cut = capture.complete
    ? null
    : element("p", { class: "cut", role: "status" }, element("b", {}, "CUT OFF: "), times.length > 0 ? `the recording did not end properly. This is what it says up to ${seconds(capture.duration_s)}.` : "the recording did not end properly.");
  return element("section", { class: "lead", "aria-label": "Summary" }, element("div", {}, headline(model), cut), badge);
}

/** What happened, in a recording that was kept because of it: line by line a word, and what is to be said of it. */
function incidentOf({ incident }) {
  if (!incident) return [];
  const [[, happened], ...rest] = incident;
  const lines = rest.flatMap(([word, text], at) => [element("dt", {}, at > 0 && rest[at - 1][0] === word ? "" : word), element("dd", {}, text)]);
  const head = element("p", { class: "bad" }, element("b", {}, happened));
  return [element("section", { class: "incident", "aria-label": "Incident" }, head, element("dl", {}, ...lines))];
}

function facts(model) {
  const { trust, left_out_sites: leftOut } = model.data;
  const losses = lossesOf(trust);
  if (losses.length === 0 && model.data.times.length > 0) losses.push(element("li", {}, "No loss of any kind was counted, and no free of a block from before."));
  if (leftOut > 0) losses.push(element("li", {}, element("b", {}, plural(leftOut, "site")), " not in this file: the report was asked for others only."));
  const { times, edges } = model.data;
  if (edges.length < times.length) {
    const every = Math.round(times.length / edges.length);
    losses.push(element("li", {}, element("b", {}, `Every ${every} intervals`), " of the recording are one step here, so that the file stays small. What it says at each step is exact."));
  }
  const attributes = { class: "facts" };
  // What may be wrong is to be read before the numbers.
  if (trust.grade > "B") attributes.open = "";
  const details = element(
    "details",
    attributes,
    element("summary", {}, ...summaryOf(model)),
    element("div", { class: "columns" }, processTable(model), element("ul", { class: "losses", "aria-label": "Losses" }, ...losses)),
  );
  return element("section", { "aria-label": "Processes and losses" }, details);
}

/** What was lost, and what is not known. */
function lossesOf(trust) {
  const losses = trust.losses.map((it) => element("li", {}, element("b", {}, `${count(it.count)} ${it.name}`), `: ${it.meaning}`));
  if (trust.sampled) losses.push(element("li", {}, element("b", {}, "Estimates"), trust.sampled.slice("estimates".length)));
  if (trust.unsampled_frees > 0) {
    losses.push(element("li", {}, element("b", {}, plural(trust.unsampled_frees, "unsampled free")), ": of blocks that were not in the sample, or from before the tracing began"));
  }
  if (trust.unknown_frees > 0) {
    losses.push(element("li", {}, element("b", {}, plural(trust.unknown_frees, "unknown free")), ": of blocks from before the tracing began"));
  }
  return losses;
}

/** What the OOM killer took first, then what holds most. */
function byWeight(processes) {
  const isKilled = (it) => it.ended?.how === "oom-kill";
  return [...processes].sort((a, b) => isKilled(b) - isKilled(a) || b.live_bytes - a.live_bytes);
}

/** The processes in a line; the table behind it has the rest. */
function summaryOf(model) {
  const { processes, trust } = model.data;
  const parts = byWeight(processes).slice(0, 2).flatMap((it) => {
    const rss = it.rss_first_bytes === null ? "" : `RSS ${bytes(it.rss_first_bytes)} → ${bytes(it.rss_last_bytes)}`;
    const limit = it.limit_bytes === null ? "" : `limit ${bytes(it.limit_bytes)}`;
    const end = element("span", { class: it.ended && it.ended.how !== "exit" ? "bad" : "" }, ending(it.ended, model.data.capture.complete));
    return [element("b", {}, `${it.pid} ${it.name}`), `  ${[rss, limit].filter(Boolean).join(", ")}  `, end, " · "];
  });
  if (processes.length > 2) parts.push(`${count(processes.length - 2)} more process${processes.length === 3 ? "" : "es"} · `);
  const kinds = trust.losses.length;
  const none = model.data.times.length > 0 ? "nothing lost" : "no interval was recorded";
  parts.push(kinds === 0 ? none : plural(kinds, "kind") + " of loss");
  if (trust.unknown_frees > 0) parts.push(`, ${plural(trust.unknown_frees, "unknown free")}`);
  if (model.data.left_out_sites > 0) parts.push(`, ${plural(model.data.left_out_sites, "site")} left out by the report's options`);
  return parts;
}

/** Processes that are listed; the others are in the numbers, and in the JSON report. */
const LISTED_PROCESSES = 50;

function processTable(model) {
  const { processes } = model.data;
  const size = (value) => (value === null ? "–" : bytes(value));
  const rows = byWeight(processes).slice(0, LISTED_PROCESSES).map((it) =>
    element(
      "tr",
      {},
      element("td", { class: "number" }, String(it.pid)),
      element("td", { class: "name", title: it.command || it.exe }, it.name),
      element("td", { class: "number" }, size(it.live_bytes)),
      ...[it.rss_first_bytes, it.rss_last_bytes, it.rss_max_bytes, it.limit_bytes].map((value) => element("td", { class: "number" }, size(value))),
      element("td", { class: it.ended && it.ended.how !== "exit" ? "bad" : "" }, ending(it.ended, model.data.capture.complete)),
      element("td", { class: `outlook ${it.outlook}` }, it.outlook_words),
    ),
  );
  const heads = ["PID", "Process", "Live", "RSS first", "last", "most", "Limit", "End", "Outlook"];
  const numbers = new Set(["PID", "Live", "RSS first", "last", "most", "Limit"]);
  const more = processes.length - LISTED_PROCESSES;
  return element(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Processes" },
    element(
      "table",
      { class: "processes" },
      element("thead", {}, element("tr", {}, ...heads.map((it) => element("th", { scope: "col", class: numbers.has(it) ? "number" : "" }, it)))),
      element("tbody", {}, ...rows),
    ),
    more > 0 ? element("p", {}, `… and ${count(more)} more`) : null,
    accountOf(processes),
  );
}

/** Where the change of the RSS of the only process went. */
function accountOf(processes) {
  const account = processes.length === 1 ? processes[0].account : null;
  if (!account) return null;
  const part = (value, words) => element("li", {}, element("b", {}, value), ` ${words}`);
  const parts = account.parts.map((it) => part(difference(it.bytes), it.words));
  if (account.before_bytes > 0) parts.push(part(bytes(account.before_bytes), "from before, not attributed"));
  return element("div", { class: "account" }, element("p", {}, `RSS ${difference(account.change_bytes)}, of it`), element("ul", {}, ...parts));
}

function ending(ended, isComplete) {
  if (!ended) return isComplete ? "still running" : "running when the recording was cut off";
  const at = ` after ${seconds(ended.t_s)}`;
  if (ended.how === "exit") return `exited with code ${ended.code}${at}`;
  if (ended.how === "oom-kill") return `killed by the OOM killer${at}`;
  if (ended.how === "exec") return `became another program, which is not traced${at}`;
  if (ended.how === "unseen") return "gone; how it ended was lost";
  return `killed by signal ${ended.code}${at}`;
}
