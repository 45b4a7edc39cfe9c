// Puts the parts together: which view is shown, what keys do, light or dark.

const VIEWS = { flame: "Flamegraph", tree: "Call tree", callers: "Callers", sites: "Sites" };

/** What the page of one recording is made of; that of a comparison is made of others. */
const REPORT = {
  Model,
  Timeline,
  Flame,
  Detail,
  treeColumns,
  siteColumns,
  summary: (model, actions) => [headerOf(model, actions), ...incidentOf(model.data), lead(model), facts(model)],
  firstSite: (model) => suspects(model)[0]?.site ?? -1,
  help: {
    escape: "back to the whole recording, without search and zoom",
    keys: [["p", "choose a process, a command or a control group; Esc takes all again"], ["Timeline", "drag: choose a window; double-click: whole recording; ← → move it, Shift ← → move its end, ↑ ↓ its beginning, Home and End widen it"]],
    words:
      "A site is a call stack that allocates, of one process or of those that the report takes as one. Live is what it has allocated and not freed, counted since the tracing began; sizes are those asked for. " +
      "Everything but verdict, oldest and peak follows the window. The verdict is over the whole recording.",
    built: (model) => `alloctrace ${model.data.capture.tool_version}; the timeline is drawn by uPlot (MIT licence, in this file's source).`,
  },
};

class App {
  constructor(model, parts) {
    this.model = model;
    this.parts = parts;
    this.timeline = new parts.Timeline(model);
    const inTrees = parts.treeColumns(model);
    this.views = {
      flame: new parts.Flame(model),
      tree: new TopDown(model, inTrees),
      callers: new BottomUp(model, inTrees),
      sites: new SiteTable(model, parts.siteColumns(model)),
    };
    this.detail = new parts.Detail(model, { reveal: (site) => this.reveal(site) });
    this.help = this.helpDialog();
    this.element = this.build();
    this.view = "flame";
  }

  start() {
    this.model.state.site = this.parts.firstSite(this.model);
    document.body.append(this.element, this.help);
    this.timeline.start();
    this.model.onChange((changed) => this.onChange(changed));
    document.addEventListener("keydown", (event) => this.onKey(event));
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => this.setTheme(dark.matches));
    this.detail.update();
    this.show(this.view);
  }

  build() {
    const actions = [
      element("button", { type: "button", id: "theme", onclick: () => this.changeTheme() }, "Light / dark"),
      element("button", { type: "button", id: "help-button", "aria-haspopup": "dialog", onclick: () => this.help.showModal() }, "Help (?)"),
    ];
    return element(
      "div",
      { class: "page" },
      ...this.parts.summary(this.model, actions),
      this.timeline.element,
      this.toolbar(),
      element("main", {}, this.tabs(), this.detail.element),
    );
  }

  toolbar() {
    const { data, state, measures } = this.model;
    this.measures = Object.entries(measures).map(([key, { title, hint }]) => {
      const input = element("input", { type: "radio", name: "measure", value: key, onchange: () => this.model.set({ measure: key }) });
      input.checked = key === state.measure;
      return element("label", { title: hint }, input, element("span", {}, title));
    });
    const options = (entries) => entries.map(([value, text]) => element("option", { value }, text));
    this.scope = new ScopePicker(this.model);
    const kinds = new Set(data.sites.kind);
    this.kind = element(
      "select",
      { "aria-label": "Kind of memory", onchange: (event) => this.model.set({ kind: event.target.value }) },
      ...options([["heap", "Heap"], ["mmap", "Direct mappings"], ["all", "Heap and mappings"]].filter(([it]) => it === "all" || kinds.has(it))),
    );
    this.kind.hidden = kinds.size < 2;
    this.kind.value = state.kind;
    this.search = element("input", {
      type: "search",
      id: "search",
      placeholder: "Search functions, modules  ( / )",
      "aria-label": "Search functions and modules",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.searchSoon(),
    });
    this.searchSoon = onceAFrame(() => this.model.set({ query: this.search.value }));
    this.allFrames = element("input", {
      type: "checkbox",
      onchange: () => this.model.set({ frames: this.allFrames.checked ? "all" : "own" }),
    });
    this.found = element("span", { class: "found-count", role: "status" });
    return element(
      "section",
      { class: "toolbar", "aria-label": "What is shown" },
      element("fieldset", { class: "measures", role: "radiogroup", "aria-label": "Measure" }, ...this.measures),
      this.scope.element,
      this.kind,
      this.search,
      element("label", { class: "check", title: "standard libraries and wrappers of malloc, between an allocation and whoever wanted it" }, this.allFrames, "Library frames"),
      this.found,
    );
  }

  tabs() {
    this.tabButtons = Object.entries(VIEWS).map(([view, title]) =>
      element(
        "button",
        { type: "button", role: "tab", id: `tab-${view}`, "aria-controls": `view-${view}`, onclick: () => this.show(view), onkeydown: (event) => this.onTabKey(event) },
        title,
      ),
    );
    this.panels = Object.keys(VIEWS).map((view) =>
      element("div", { role: "tabpanel", id: `view-${view}`, "aria-labelledby": `tab-${view}`, class: "panel", hidden: "" }, this.views[view].element),
    );
    return element("section", { class: "views", "aria-label": "Views" }, element("div", { class: "tabs", role: "tablist", "aria-label": "Views" }, ...this.tabButtons), ...this.panels);
  }

  show(view) {
    this.view = view;
    Object.keys(VIEWS).forEach((name, at) => {
      const isShown = name === view;
      this.panels[at].hidden = !isShown;
      this.tabButtons[at].setAttribute("aria-selected", isShown);
      this.tabButtons[at].tabIndex = isShown ? 0 : -1;
    });
    this.views[view].update();
    this.showFound();
  }

  onTabKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    const names = Object.keys(VIEWS);
    const next = (names.indexOf(this.view) + step + names.length) % names.length;
    this.show(names[next]);
    this.tabButtons[next].focus();
    event.preventDefault();
  }

  onChange(changed) {
    if (changed.has("measure")) {
      this.views.sites.followMeasure(this.model.state.measure);
      this.measures.forEach((it) => (it.firstChild.checked = it.firstChild.value === this.model.state.measure));
    }
    if (changed.has("query") && this.search.value !== this.model.state.query) this.search.value = this.model.state.query;
    this.scope.update();
    this.kind.value = this.model.state.kind;
    this.timeline.update(changed);
    const isOnlySite = changed.size === 1 && changed.has("site");
    if (!isOnlySite) this.views[this.view].update();
    else if (this.view === "sites") this.views.sites.showChosen();
    this.detail.update();
    this.showFound();
  }

  showFound() {
    const { totals, state, measures } = this.model;
    const isFiltered = state.query.trim() !== "";
    this.found.textContent = isFiltered ? `${plural(totals.sites, "site")}, ${measures[state.measure].form(totals[state.measure])}` : plural(totals.sites, "site");
  }

  reveal(site) {
    this.show("flame");
    this.views.flame.reveal(site);
    this.views.flame.plot.focus();
  }

  changeTheme() {
    this.setTheme(document.documentElement.dataset.theme !== "dark");
  }

  setTheme(isDark) {
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    // Canvases do not follow the style sheet by themselves.
    this.timeline.redraw();
    this.views.flame.paint();
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || this.help.open) return;
    const isTyping = event.target.matches("input[type=search], input[type=number], select");
    if (event.key === "Escape") {
      this.model.reset();
      this.views.flame.zoomTo(-1);
      if (isTyping) event.target.blur();
    } else if (isTyping) return;
    else if (event.key === "/") this.search.focus();
    else if (event.key === "p" && !this.scope.element.hidden) this.scope.input.focus();
    else if (event.key === "?") this.help.showModal();
    else if (event.key === "t") this.changeTheme();
    else if (/^[1-4]$/.test(event.key)) this.show(Object.keys(VIEWS)[event.key - 1]);
    else return;
    event.preventDefault();
  }

  helpDialog() {
    const { help } = this.parts;
    const keys = [
      ["/", "search; words are looked for in functions, modules and in what calls them"],
      ["Esc", help.escape],
      ["1 2 3 4", "flamegraph, call tree, callers, sites"],
      ["t", "light or dark"],
      ...help.keys,
      ["Flamegraph", "← → ↑ ↓ go from frame to frame, Enter zooms in, Backspace out"],
      ["Tree", "↑ ↓ go from row to row, → opens, ← closes or goes to the caller"],
      ["Table", "↑ ↓ Page up, Page down, Home, End; the heads of the columns sort"],
    ];
    const dialog = element(
      "dialog",
      { class: "help", "aria-label": "Help" },
      element("h2", {}, "Keys"),
      element("dl", {}, ...keys.flatMap(([key, text]) => [element("dt", {}, key), element("dd", {}, text)])),
      element("h2", {}, "Words"),
      element("p", {}, help.words),
      element("p", { class: "built" }, help.built(this.model)),
      element("form", { method: "dialog" }, element("button", {}, "Close")),
    );
    return dialog;
  }
}

async function start() {
  document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const began = performance.now();
  const data = await readData();
  const read = performance.now();
  const parts = data.comparison ? COMPARISON : REPORT;
  const app = new App(new parts.Model(data), parts);
  app.start();
  // Two frames later what was asked for is on the screen.
  requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      const now = performance.now();
      document.documentElement.dataset.ready = JSON.stringify({ read_ms: read - began, draw_ms: now - read, since_start_ms: now });
    }),
  );
}

start().catch((error) => {
  document.body.append(element("p", { class: "failed", role: "alert" }, `This report cannot be shown: ${error.message}`));
  throw error;
});
