"use strict";
// Heat maps: a canvas with one cell for each value, and axes beside it.

/// The colour of a load: 1 is the mean, blue is less, orange more. A factor of 4 has the full colour.
function loadColour() {
  const low = rgb("low"), middle = rgb("middle"), high = rgb("high"), empty = rgb("empty");
  return (load) => {
    if (!known(load)) return empty;
    if (load <= 0) return low;
    const share = Math.max(-1, Math.min(1, Math.log2(load) / 2));
    return share < 0 ? mixed(middle, low, -share) : mixed(middle, high, share);
  };
}

function loadScale(words) {
  const ramp = element("span", {class: "ramp", style: {background: "linear-gradient(to right, var(--low), var(--middle), var(--high))"}});
  return element("span", {class: "scale"}, element("span", {}, words[0]), ramp, element("span", {}, words[1]));
}

/// A heat map of `rows` x `columns`. `value(row, column)` is a load; `tell(row, column)` the text beside the pointer;
/// `rowLabel` and `columnLabel` give texts for the axes (null: none there). `rowTitle` and `columnTitle` name the axes.
/// `click(row, column)` may be missing.
function heatMap(parent, options) {
  const canvas = element("canvas", {role: "img", "aria-label": options.name});
  const holder = element("div", {class: "heat"}, canvas);
  parent.append(holder);
  let place = null;

  function draw() {
    const {rows, columns} = options;
    const width = Math.max(holder.clientWidth, 200);
    const ratio = Math.min(devicePixelRatio || 1, 3);
    const context = canvas.getContext("2d");
    const font = "11px system-ui, sans-serif";
    context.font = font;
    let left = 0;
    for (let row = 0; row < rows; ++row) {
      left = Math.max(left, context.measureText(options.rowLabel(row) ?? "").width);
    }
    left = Math.min(Math.ceil(left) + 8, width * 0.4) + (options.rowTitle ? 16 : 0);
    const cell = (width - left - 2) / columns;
    const tall = options.square ? cell : Math.max(options.least ?? 5, Math.min(22, (options.height ?? 240) / rows));
    const bottom = options.columnTitle ? 34 : 20;
    const height = tall * rows + bottom;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const paint = loadColour();
    const edge = (at, size, begin) => Math.round((begin + at * size) * ratio) / ratio;
    const gap = Math.min(cell, tall) >= 7 ? 1 : 0;
    for (let row = 0; row < rows; ++row) {
      for (let column = 0; column < columns; ++column) {
        const value = options.value(row, column);
        if (value === null) continue;
        context.fillStyle = `rgb(${paint(value).join(" ")})`;
        const x = edge(column, cell, left), y = edge(row, tall, 0);
        context.fillRect(x, y, edge(column + 1, cell, left) - x - gap, edge(row + 1, tall, 0) - y - gap);
      }
    }
    context.font = font;
    context.fillStyle = colour("soft");
    context.textBaseline = "middle";
    context.textAlign = "right";
    const rowStep = Math.max(1, Math.ceil(13 / tall));
    for (let row = 0; row < rows; row += rowStep) {
      const text = options.rowLabel(row);
      const middle = Math.max((row + 0.5) * tall, 6);  // half a line: the label of a thin first row is not cut
      if (text) context.fillText(shortened(context, text, left - (options.rowTitle ? 20 : 6)), left - 6, middle);
    }
    context.textBaseline = "top";
    context.textAlign = "center";
    let free = -1;
    for (let column = 0; column < columns; ++column) {
      const text = options.columnLabel(column);
      if (!text) continue;
      const half = context.measureText(text).width / 2, middle = left + (column + 0.5) * cell;
      const at = Math.min(Math.max(middle, left + half), width - half);
      if (at - half < free) continue;
      context.fillText(text, at, tall * rows + 5);
      free = at + half + 10;
    }
    context.fillStyle = colour("faint");
    if (options.columnTitle) context.fillText(options.columnTitle, left + (width - left) / 2, tall * rows + 20);
    if (options.rowTitle) {
      context.save();
      context.translate(2, tall * rows / 2);
      context.rotate(-Math.PI / 2);
      context.fillText(options.rowTitle, 0, 0);
      context.restore();
    }
    place = {left, cell, tall};
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - place.left) / place.cell);
    const row = Math.floor((event.clientY - box.top) / place.tall);
    return column >= 0 && column < options.columns && row >= 0 && row < options.rows ? [row, column] : null;
  }
  canvas.addEventListener("pointermove", (event) => {
    const at = cellAt(event);
    const text = at && options.tell(...at);
    if (text) showTip(text, event.clientX, event.clientY);
    else hideTip();
  });
  canvas.addEventListener("pointerleave", hideTip);
  if (options.click) {
    canvas.addEventListener("click", (event) => {
      const at = cellAt(event);
      if (at) options.click(...at);
    });
  }
  keepDrawn(holder, draw);
  drawings.push({name: options.name, canvas});
  return {redraw: draw};
}

/// The beginning of a text that fits.
function shortened(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let kept = text;
  while (kept.length > 1 && context.measureText(`${kept}…`).width > width) kept = kept.slice(0, -1);
  return `${kept}…`;
}
