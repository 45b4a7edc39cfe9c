// A table or tree of any length: only the rows in sight exist as elements.
//
// Why not a library: tabulator-tables 6.5 (448 kB) was tried with 20,000 rows under the same policy. It needs 0.37 s
// to take new numbers, which happens with every movement of the window, and its rows are not reachable by
// the keyboard. A list of rows of one height takes no more than this file.

const ROW_PX = 24;

/** Rows beyond the edges of what is seen, so that scrolling shows no gaps. */
const SPARE_ROWS = 6;

class Grid {
  /**
   * `source`: count(), fill(row, cells, element), choose(row), and for a tree level(row), isOpen(row) (null for leaves),
   * toggle(row).
   * `columns`: { key, title, hint, px, grows, number }; a table gets buttons to sort by those with a `sort`.
   */
  constructor({ label, isTree, columns, source, onSort }) {
    this.source = source;
    this.isTree = isTree;
    this.columns = columns;
    this.at = 0;
    this.rows = new Map();
    this.id = `grid-${(Grid.made = (Grid.made ?? 0) + 1)}`;
    this.heads = columns.map((column) => this.head(column, onSort));
    this.body = element("div", { class: "rows", role: "rowgroup" });
    this.element = element(
      "div",
      { class: "grid", role: isTree ? "treegrid" : "grid", tabindex: "0", "aria-label": label, "aria-colcount": columns.length },
      element("div", { role: "rowgroup", class: "head" }, element("div", { class: "row", role: "row", "aria-rowindex": 1 }, ...this.heads)),
      this.body,
    );
    const width = (it) => (it.grows ? `minmax(${it.px}px, ${it.grows}fr)` : `${it.px}px`);
    this.element.style.setProperty("--columns", columns.map(width).join(" "));
    this.element.style.setProperty("--least", `${columns.reduce((sum, it) => sum + it.px, 0)}px`);
    this.paint = onceAFrame(() => this.draw());
    this.element.addEventListener("scroll", this.paint, { passive: true });
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    this.body.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(this.paint).observe(this.element);
  }

  head(column, onSort) {
    const content = column.sort
      ? element("button", { type: "button", onclick: () => onSort(column), title: column.hint }, column.title)
      : element("span", { title: column.hint }, column.title);
    const its = { role: "columnheader", class: column.number ? "cell number" : "cell" };
    return element("div", its, content);
  }

  /** `direction` is 1 or -1. */
  showSort(key, direction) {
    this.columns.forEach((column, at) => {
      const sorted = { [-1]: "descending", 1: "ascending" }[direction];
      if (column.key === key) this.heads[at].setAttribute("aria-sort", sorted);
      else this.heads[at].removeAttribute("aria-sort");
    });
  }

  /** The rows are others now. */
  refresh() {
    const rows = this.source.count();
    this.at = Math.max(0, Math.min(this.at, rows - 1));
    // Browsers end at some millions of pixels (Firefox at 17.8); half a million rows of a tree stay below.
    this.body.style.height = `${rows * ROW_PX}px`;
    this.element.setAttribute("aria-rowcount", rows + 1);
    this.drawAll = true;
    this.paint();
  }

  draw() {
    const height = this.element.clientHeight;
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW_PX) - SPARE_ROWS);
    const last = Math.min(this.source.count(), first + Math.ceil(height / ROW_PX) + 2 * SPARE_ROWS);
    for (const [row, its] of this.rows) {
      if (row >= first && row < last && !this.drawAll) continue;
      its.remove();
      this.rows.delete(row);
    }
    this.drawAll = false;
    for (let row = first; row < last; row += 1) {
      if (this.rows.has(row)) continue;
      const its = this.row(row);
      this.rows.set(row, its);
      this.body.append(its);
    }
    this.markRow();
  }

  row(row) {
    const cells = this.columns.map((column) =>
      element("div", { role: "gridcell", class: column.number ? "cell number" : "cell" }),
    );
    const its = element("div", { class: "row", role: "row", id: `${this.id}-${row}`, "aria-rowindex": row + 2 }, ...cells);
    its.style.transform = `translateY(${row * ROW_PX}px)`;
    its.dataset.row = row;
    if (this.isTree) {
      its.setAttribute("aria-level", this.source.level(row) + 1);
      const isOpen = this.source.isOpen(row);
      if (isOpen !== null) its.setAttribute("aria-expanded", isOpen);
    }
    this.source.fill(row, cells, its);
    return its;
  }

  markRow() {
    for (const [row, its] of this.rows) its.classList.toggle("at", row === this.at);
    if (this.rows.has(this.at)) this.element.setAttribute("aria-activedescendant", `${this.id}-${this.at}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /** Makes `row` the one that keys act on, and shows it. */
  goTo(row, choose = true) {
    const rows = this.source.count();
    if (rows === 0) return;
    this.at = Math.max(0, Math.min(row, rows - 1));
    const top = this.at * ROW_PX;
    const room = this.element.clientHeight - ROW_PX;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + ROW_PX > this.element.scrollTop + room) this.element.scrollTop = top + ROW_PX - room;
    if (choose) this.source.choose(this.at);
    this.paint();
  }

  onClick(event) {
    const its = event.target.closest(".row");
    if (!its) return;
    const row = Number(its.dataset.row);
    if (event.target.closest(".fold")) this.toggle(row);
    this.goTo(row);
  }

  toggle(row) {
    this.source.toggle(row);
    this.refresh();
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target !== this.element) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW_PX) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.goTo(this.at + steps[event.key]);
    else if (event.key === "Enter") this.source.choose(this.at);
    else if (this.isTree && event.key === "ArrowRight") this.openOrEnter();
    else if (this.isTree && event.key === "ArrowLeft") this.closeOrLeave();
    else if (this.isTree && event.key === " ") this.toggle(this.at);
    else return;
    event.preventDefault();
  }

  openOrEnter() {
    const isOpen = this.source.isOpen(this.at);
    if (isOpen === false) this.toggle(this.at);
    else if (isOpen) this.goTo(this.at + 1);
  }

  closeOrLeave() {
    if (this.source.isOpen(this.at)) {
      this.toggle(this.at);
      return;
    }
    const level = this.source.level(this.at);
    let row = this.at;
    while (row > 0 && this.source.level(row) >= level) row -= 1;
    this.goTo(row);
  }
}
