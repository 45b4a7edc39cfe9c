// Numbers and names as people read them; the same forms as in the text report.

const SIZE_UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];

function bytes(value) {
  if (Math.abs(value) < 1024) return `${Math.round(value)} B`;
  let unit = -1;
  while (Math.abs(value) >= 1023.95 || unit < 0) {
    value /= 1024;
    unit += 1;
    if (unit + 1 === SIZE_UNITS.length) break;
  }
  return `${value.toFixed(1)} ${SIZE_UNITS[unit]}`;
}

/** With a sign, for what is a difference. */
function difference(value, form = bytes) {
  return value > 0 ? `+${form(value)}` : form(value).replace("-", "−");
}

function rate(bytesPerSecond) {
  return `${difference(Math.round(bytesPerSecond))}/s`;
}

const COUNT = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

function count(value) {
  return COUNT.format(value);
}

function plural(value, word) {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

function seconds(value) {
  const whole = Math.round(value);
  if (whole < 60) return `${value.toFixed(1)} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
}

/** For the ticks of an axis that spans `span` seconds. */
function tick(value, span) {
  if (span < 120) return `${+value.toFixed(2)} s`;
  const two = (it) => String(Math.floor(it)).padStart(2, "0");
  if (span < 7200) return `${Math.floor(value / 60)}:${two(value % 60)}`;
  return `${Math.floor(value / 3600)}:${two((value / 60) % 60)} h`;
}

function percent(part, whole) {
  if (!whole) return "–";
  const share = (part / whole) * 100;
  return `${share.toFixed(Math.abs(share) < 10 ? 1 : 0)} %`;
}

/** The last part of a path. */
function fileName(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Where a name's own part begins: behind the last `::` that is in no brackets. */
function ownPart(name) {
  let depth = 0;
  let last = 0;
  let beforeLast = 0;
  for (let at = 0; at < name.length; at += 1) {
    const char = name[at];
    if (char === "<" || char === "(" || char === "[") depth += 1;
    // `operator->` and `Fn() -> T` have a bracket that closes nothing.
    else if ((char === ">" && name[at - 1] !== "-") || char === ")" || char === "]") depth -= 1;
    // `f::<T>` is one part.
    else if (depth === 0 && char === ":" && name[at + 1] === ":" && name[at + 2] !== "<") {
      beforeLast = last;
      last = at + 2;
      at += 1;
    }
  }
  if (depth !== 0) return 0;
  // `{{closure}}` alone says nothing.
  return name[last] === "{" ? beforeLast : last;
}

/** Without types and parameters: `<Book<T> as Shelf>::find::<K>` is `Book::find`. */
function bareName(name) {
  let text = name;
  if (text[0] === "<") {
    const end = closing(text, 0);
    if (end > 0) text = text.slice(1, end).split(" as ")[0] + text.slice(end + 1);
  }
  let bare = "";
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "<" || text[at] === "(") depth += 1;
    if (depth === 0) bare += text[at];
    if ((text[at] === ">" && text[at - 1] !== "-") || text[at] === ")") depth -= 1;
  }
  return depth === 0 && bare !== "" ? bare.replace(/::(?=::|$)/g, "") : name;
}

/** Where the bracket at `from` closes; -1 if it does not. */
function closing(text, from) {
  let depth = 0;
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === "<") depth += 1;
    else if (text[at] === ">" && text[at - 1] !== "-") depth -= 1;
    if (depth === 0) return at;
  }
  return -1;
}

/** `name` in at most `room` characters: types and parameters go first, then the scope, then the end. */
function fit(name, room) {
  if (name.length <= room) return name;
  if (room < 3) return "";
  const bare = bareName(name);
  if (bare.length <= room) return bare;
  const parts = bare.split("::");
  while (parts.length > 1) {
    parts.shift();
    const rest = parts.join("::");
    if (rest.length < room && rest[0] !== "{") return `…${rest}`;
  }
  const own = bare.slice(ownPart(bare));
  return own.length <= room ? own : `${own.slice(0, room - 1)}…`;
}
