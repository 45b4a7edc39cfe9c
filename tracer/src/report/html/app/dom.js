// Elements. Names of the traced program get into the page by textContent and attributes only.

/** `attributes` may hold `on…` listeners; children are nodes or texts, null is left out. */
function element(tag, attributes = {}, ...children) {
  const it = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) it.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) it.setAttribute(name, value);
  }
  it.append(...children.filter((child) => child !== null));
  return it;
}

function svg(tag, attributes, ...children) {
  const it = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) it.setAttribute(name, value);
  it.append(...children);
  return it;
}

/** A function's name: its scope steps back, and gives way first. */
function nameParts(name) {
  const own = ownPart(name);
  return [
    element("span", { class: "scope" }, name.slice(0, own)),
    element("wbr"),
    element("span", { class: "own" }, name.slice(own)),
  ];
}

/** The same without types and parameters, where there is little room; the title is to have them. */
function bareNameParts(name) {
  return nameParts(bareName(name));
}

/** The value of a colour or size of the style sheet. */
function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Calls `paint` once before the next frame, however often it is asked. */
function onceAFrame(paint) {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      paint();
    });
  };
}
