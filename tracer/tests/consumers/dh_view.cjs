// Loads a DHAT file by valgrind's own dh_view.js, shows it in every order, and prints what the viewer has summed up.
// Arguments: the path of dh_view.js, the path of the file. The viewer asks for a page; elements that keep text and
// children are enough.

const fs = require("fs");
const vm = require("vm");

class Element {
  constructor() {
    this.childNodes = [];
    this.classList = { contains: () => false, toggle: () => {} };
    this.selectedIndex = 0;
  }
  appendChild(child) {
    child.parentNode = this;
    this.childNodes.push(child);
    return child;
  }
  replaceChild(next, old) {
    next.parentNode = this;
    this.childNodes[this.childNodes.indexOf(old)] = next;
    return old;
  }
  cloneNode() {
    return new Element();
  }
}

const document = {
  body: new Element(),
  location: { search: "" },
  createElement: () => new Element(),
  createTextNode: () => new Element(),
};
const [viewer, file] = process.argv.slice(2);
const context = vm.createContext({ document, URLSearchParams, performance, file: fs.readFileSync(file, "utf8") });
vm.runInContext(fs.readFileSync(viewer, "utf8"), context);
vm.runInContext(
  `
  onLoad();
  gFilename = "file";
  for (const [at, order] of gSelectData.entries()) {
    gData = JSON.parse(file);
    if (order.enable(gData.bklt, gData.bkacc)) {
      gSelect.selectedIndex = at;
      buildTree();
      displayTree();
    }
  }
  sums = {
    total_bytes: gRoot._totalBytes,
    total_blocks: gRoot._totalBlocks,
    peak_bytes: gRoot._atTGmaxBytes,
    end_bytes: gRoot._atTEndBytes,
    end_blocks: gRoot._atTEndBlocks,
  };
  `,
  context,
);
console.log(JSON.stringify(context.sums));
