"use strict";
// What every page uses. Text from a run enters the page as text alone (textContent), never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");

// For the tests: how many pictures there are, and what went wrong.
const drawings = [];
const mistakes = [];
window.addEventListener("error", (event) => {
  mistakes.push(String(event.message));
  document.documentElement.dataset.mistakes = mistakes.join("; ");
});

/// An element: element("td", {class: "number"}, "12", anotherElement). Attributes that are functions are listeners.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(key, value);
    else if (key === "style") Object.assign(made.style, value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function rgb(name) {
  const text = colour(name);
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

/// Between two colours, for a share from 0 to 1.
function mixed(from, to, share) {
  return from.map((part, i) => Math.round(part + (to[i] - part) * share));
}

const known = (value) => typeof value === "number" && Number.isFinite(value);

/// A number as people read it: 1234 -> "1,234", 0.000123 -> "1.23e-4".
function number(value, digits = 4) {
  if (!known(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-3) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(digits)));
}

/// With a letter for thousands: 5734400 -> "5.73M".
function short(value) {
  if (!known(value)) return "–";
  const units = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const unit = units.find(([size]) => Math.abs(value) >= size * 0.9995);
  return unit ? `${Number((value / unit[0]).toPrecision(3))}${unit[1]}` : number(value, 3);
}

function bytes(value) {
  if (!known(value)) return "–";
  const units = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];
  const unit = units.find(([size]) => value >= size);
  return unit ? `${Number((value / unit[0]).toPrecision(3))} ${unit[1]}` : `${value} bytes`;
}

function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 90) return `${Number(seconds.toPrecision(2))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${(minutes / 1440).toFixed(1)} days`;
}

const percent = (share) => `${Number((100 * share).toPrecision(3))}%`;

/// Buttons of which one is chosen. `choices` are [value, label, disabled].
function choice(label, choices, chosen, change) {
  const buttons = choices.map(([value, text, disabled]) =>
    element("button", {type: "button", "aria-pressed": String(value === chosen), disabled, click: () => {
      buttons.forEach((one, i) => one.setAttribute("aria-pressed", String(choices[i][0] === value)));
      change(value);
    }}, text));
  return element("div", {class: "choice", role: "group", "aria-label": label}, buttons);
}

function section(id, title, lead) {
  const made = element("section", {}, element("h2", {id}, title), lead ? element("p", {class: "lead"}, lead) : null);
  made.dataset.title = title;
  page.append(made);
  return made;
}

function table(heads, rows) {
  const cell = (tag, content) => {
    const given = content !== null && typeof content === "object" && !(content instanceof Node) ? content : {text: content};
    return element(tag, {class: given.number ? "number" : null}, ...[given.text].flat());
  };
  return element("div", {class: "table"}, element("table", {},
    element("thead", {}, element("tr", {}, heads.map((head) => cell("th", head)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map((content) => cell("td", content)))))));
}

/// The box beside the pointer.
const tip = document.getElementById("tip");
function showTip(text, x, y) {
  tip.hidden = false;
  tip.textContent = text;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 6))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18}px`;
}
function hideTip() { tip.hidden = true; }

/// Calls `draw` now, when the colours change, and when the element gets another width.
function keepDrawn(where, draw) {
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = where.clientWidth;
  new ResizeObserver(() => {
    if (where.clientWidth === width || where.clientWidth === 0) return;
    width = where.clientWidth;
    requestAnimationFrame(draw);  // not now: the observer must not change what it observes
  }).observe(where);
}

/// True if something was drawn: a pixel that differs from the first one.
function hasInk(canvas) {
  if (canvas.width === 0 || canvas.height === 0) return false;
  const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return pixels.some((pixel) => pixel !== pixels[0]);
}

/// Presses every button and chooses from every list, the first ones last.
function useEverything() {
  for (const list of page.querySelectorAll("select")) {
    for (let at = list.options.length - 1; at >= 0; --at) {
      list.value = at;
      list.dispatchEvent(new Event("change"));
    }
  }
  for (const group of page.querySelectorAll(".choice")) [...group.children].reverse().forEach((button) => button.click());
  for (const button of page.querySelectorAll(".legend button")) [1, 2].forEach(() => button.click());
}

/// The end of a page. With #check in its address it says in the root element how many pictures have ink, after everything
/// was used once.
function finish() {
  const root = document.documentElement;
  if (location.hash === "#check") {
    useEverything();
    const there = drawings.filter(({canvas}) => canvas.isConnected);
    root.dataset.pictures = there.map(({name}) => name).join("; ");
    root.dataset.blank = there.filter(({canvas}) => !hasInk(canvas)).map(({name}) => name).join("; ");
    root.dataset.wide = document.documentElement.scrollWidth > innerWidth ? `${document.documentElement.scrollWidth} px` : "";
  }
  root.dataset.ready = "true";
}
