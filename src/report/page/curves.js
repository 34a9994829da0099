"use strict";
// Curves of runs, drawn by Chart.js.

const axes = [
  ["step", "Steps", "step", short],
  ["tokens", "Tokens", "tokens", short],
  ["flops", "FLOPs", "FLOPs", short],
  ["seconds", "Seconds", "seconds of training", short],
];

const seriesColour = (i) => colour(`series-${i % 8 + 1}`);
// Runs beyond the eighth have the colours again, with dashes.
const seriesDash = (i) => (i < 8 ? [] : i < 16 ? [7, 3] : [2, 3]);

/// All charts of curves share an axis and the runs that are shown.
class Curves {
  constructor(runs) {
    this.runs = runs;
    this.axis = "step";
    this.logarithmic = false;
    this.shown = runs.map(() => true);
    this.charts = [];
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  hasAxis(axis) {
    return this.runs.every((run) => run.curves[axis].every(known));
  }

  /// `sets(run, i)` gives the datasets of a run, whose data are points {x, y}.
  add(parent, {name, title, unit, wide, log, sets, legend}) {
    const canvas = element("canvas", {role: "img", "aria-label": name});
    parent.append(element("div", {class: wide ? "card wide" : "card"}, element("h3", {}, title),
      legend ? element("p", {class: "small"}, legend) : null, element("div", {class: "plot"}, canvas)));
    const made = {name, canvas, unit, log, sets, chart: null};
    this.charts.push(made);
    this.draw(made);
    new ResizeObserver(() => requestAnimationFrame(() => made.chart.resize())).observe(canvas.parentElement);
    drawings.push({name, canvas});
  }

  points(run, column) {
    const x = run.curves[this.axis];
    return run.curves[column].map((y, i) => ({x: x[i], y}));
  }

  redraw() {
    for (const made of this.charts) this.draw(made);
  }

  draw(made) {
    if (made.chart) made.chart.destroy();
    const [, , axisTitle, axisText] = axes.find(([axis]) => axis === this.axis);
    const datasets = this.runs.flatMap((run, i) => (this.shown[i] ? made.sets(run, i) : []));
    const grid = {color: colour("grid"), drawTicks: false};
    const ticks = {color: colour("soft"), padding: 6, maxRotation: 0, font: {size: 11}};
    made.chart = new Chart(made.canvas, {
      type: "line",
      data: {datasets},
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, normalized: true,
        interaction: {mode: "nearest", axis: "x", intersect: false},
        elements: {point: {radius: 0, hitRadius: 6, hoverRadius: 3}, line: {borderWidth: 1.8, borderJoinStyle: "round"}},
        scales: {
          x: {
            type: this.logarithmic ? "logarithmic" : "linear", grid: {display: false}, bounds: "data",
            min: this.logarithmic ? undefined : 0,
            border: {color: colour("line")},
            title: {display: true, text: axisTitle, color: colour("faint"), font: {size: 11}},
            ticks: {...ticks, maxTicksLimit: 8, callback: (value) => axisText(value)},
          },
          y: {
            type: made.log ? "logarithmic" : "linear", grid, border: {display: false},
            title: {display: Boolean(made.unit), text: made.unit, color: colour("faint"), font: {size: 11}},
            ticks: {...ticks, maxTicksLimit: made.log ? 40 : 7, autoSkip: !made.log, callback: (value) => (made.log && !isRound(value) ? "" : short(value))},
          },
        },
        plugins: {
          legend: {display: false},
          tooltip: {
            backgroundColor: colour("ink"), titleColor: colour("plane"), bodyColor: colour("plane"), boxPadding: 4, usePointStyle: true,
            filter: (item) => !item.dataset.silent,
            callbacks: {
              title: (items) => (items.length ? `${axisTitle} ${short(items[0].parsed.x)}` : ""),
              label: (item) => ` ${item.dataset.label}: ${item.raw.note ?? number(item.parsed.y)}`,
            },
          },
        },
      },
    });
  }
}

/// 1, 2 or 5 times a power of ten.
function isRound(value) {
  return ["1", "2", "5"].includes(value.toExponential(6).replace(/\.?0+e.*$/, "").replace(/e.*$/, ""));
}

function lineOf(label, i, points, more = {}) {
  return {label, data: points, borderColor: seriesColour(i), backgroundColor: seriesColour(i), borderDash: seriesDash(i), ...more};
}

/// The range of the loss within a point of the curve, as a band.
function band(curves, run, i) {
  const low = curves.points(run, "low"), high = curves.points(run, "high");
  if (low.every(({y}, at) => y === high[at].y)) return [];
  const none = {borderWidth: 0, pointHitRadius: 0, pointHoverRadius: 0, silent: true};
  return [lineOf("", i, high, {...none, order: 3}), lineOf("", i, low, {...none, fill: "-1", order: 3, backgroundColor: `${seriesColour(i)}2b`})];
}

function validation(curves, run, i, several) {
  const points = run.evaluations.filter((one) => known(one.loss) && known(one[curves.axis] ?? one.step))
    .map((one) => ({x: one[curves.axis], y: one.loss, note: `${number(one.loss)}${known(one.loss_error) ? ` ± ${number(one.loss_error, 2)}` : ""}`}));
  if (points.length === 0) return [];
  const line = several ? seriesColour(i) : colour("series-2");
  return [{label: several ? `${run.name}, validation` : "validation", data: points, borderColor: line, backgroundColor: line,
    borderWidth: 1.6, borderDash: [5, 4], pointRadius: points.length > 60 ? 0 : 3.2, order: 0}];
}

function showCurves(runs) {
  const where = section("curves", "Curves",
    "A point is the mean of the steps up to it; the pale band holds the losses of single steps. Move the pointer over a curve for its values.");
  const curves = new Curves(runs);
  const several = runs.length > 1;
  const bar = element("div", {class: "bar"},
    choice("horizontal axis", axes.map(([axis, label]) => [axis, label, !curves.hasAxis(axis)]), "step",
      (axis) => { curves.axis = axis; curves.redraw(); }),
    choice("scale of the horizontal axis", [[false, "Linear"], [true, "Logarithmic"]], false,
      (log) => { curves.logarithmic = log; curves.redraw(); }));
  if (several) {
    bar.append(element("div", {class: "legend"}, runs.map((run, i) => {
      const button = element("button", {type: "button", "aria-pressed": "true", click: () => {
        curves.shown[i] = !curves.shown[i];
        button.setAttribute("aria-pressed", String(curves.shown[i]));
        curves.redraw();
      }}, element("span", {class: "dot", style: {background: `var(--series-${i % 8 + 1})`}}), run.name);
      return button;
    })));
  }
  const grid = element("div", {class: "charts"});
  where.append(bar, grid);
  const named = (run, i, column, label) => lineOf(several ? run.name : label, i, curves.points(run, column));
  curves.add(grid, {
    name: "loss", title: "Loss", unit: "nats per token", wide: true,
    legend: several ? "Solid: training. Dashed, with points: validation." : "Blue: training. Orange, dashed: validation.",
    sets: (run, i) => [...validation(curves, run, i, several),
      {...named(run, i, "loss", "training"), label: several ? `${run.name}, training` : "training", order: 1}, ...band(curves, run, i)],
  });
  curves.add(grid, {name: "learning rate", title: "Learning rate", sets: (run, i) => [named(run, i, "learning_rate", "learning rate")]});
  curves.add(grid, {name: "gradient norm", title: "Norm of the gradients, before clipping", log: true,
    sets: (run, i) => [named(run, i, "gradient_norm", "norm")]});
  curves.add(grid, {name: "speed", title: "Tokens per second", sets: (run, i) => [named(run, i, "tokens_per_second", "tokens/s")]});
  if (runs.some((run) => run.curves.worst_load.some(known))) {
    curves.add(grid, {name: "worst load", title: "Load of the busiest expert", unit: "times the mean",
      sets: (run, i) => [named(run, i, "worst_load", "worst load")]});
  }
  for (const run of runs) showDomainCurves(curves, grid, run, several);
}

/// The validation loss of each domain, of a run that has several.
function showDomainCurves(curves, grid, run, several) {
  const names = [...new Set(run.evaluations.flatMap((one) => Object.keys(one.domains)))];
  if (names.length < 2 || run.evaluations.length < 2) return;
  const index = curves.runs.indexOf(run);
  curves.add(grid, {
    name: `domains of ${run.name}`, title: several ? `Validation loss by domain: ${run.name}` : "Validation loss by domain", unit: "nats per token",
    wide: true, sets: (one, i) => (i !== index ? [] : names.map((name, domain) => lineOf(name, domain,
      run.evaluations.map((point) => ({x: point[curves.axis], y: point.domains[name]})), {pointRadius: 2.5}))),
  });
  grid.lastChild.querySelector("h3").after(element("div", {class: "bar small"}, names.map((name, domain) =>
    element("span", {class: "run-name small"}, element("span", {class: "dot", style: {background: `var(--series-${domain % 8 + 1})`}}), name))));
}
