// Which processes are looked at: a field that finds one of a thousand by any part of its name.

class ScopePicker {
  constructor(model) {
    this.model = model;
    const { scopes, groups, processes } = model.data;
    this.all = processes.length > groups.length ? `All ${plural(groups.length, "group")}` : `All ${count(groups.length)} processes`;
    const option = ({ title, live }) => element("option", { value: title }, live > 0 ? bytes(live) : null);
    this.input = element("input", {
      type: "search",
      class: "scope",
      list: "scopes",
      "aria-label": "Process",
      title: "A process, a command or a control group, by any part of its name  ( p )",
      autocomplete: "off",
      spellcheck: "false",
      onchange: () => this.choose(this.input.value),
      // The list shows what contains the text: an empty field offers everything.
      onfocus: () => this.offer(),
      onblur: () => this.update(),
    });
    const list = element("datalist", { id: "scopes" }, element("option", { value: this.all }), ...scopes.map(option));
    this.element = element("span", {}, this.input, list);
    this.element.hidden = scopes.length < 2;
    this.update();
  }

  offer() {
    this.input.placeholder = this.input.value;
    this.input.value = "";
  }

  /** By its name, or the first that has `text` in it. */
  choose(text) {
    const { scopes } = this.model.data;
    const wanted = text.trim().toLowerCase();
    const exact = scopes.findIndex((it) => it.title.toLowerCase() === wanted);
    const scope = exact >= 0 || wanted === "" || wanted === this.all.toLowerCase() ? exact : scopes.findIndex((it) => it.title.toLowerCase().includes(wanted));
    // A site of others would stay beside numbers that are not its own.
    const { site } = this.model.state;
    const isOf = scope < 0 || site < 0 || scopes[scope].hasGroup.has(this.model.data.sites.process[site]);
    this.model.set({ scope, site: isOf ? site : -1 });
    this.update();
  }

  update() {
    this.input.value = this.model.scope?.title ?? this.all;
    this.input.classList.toggle("chosen", this.model.scope !== null);
  }
}
