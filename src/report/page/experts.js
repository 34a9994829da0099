"use strict";
// What the experts of a run did: their load over time, the domains that they read, the pairs that work together.

/// A list of the runs for which `has` is true, and a place that shows the chosen one.
function forOneRun(where, runs, has, show) {
  const fitting = runs.filter(has);
  const place = element("div");
  if (fitting.length > 1) {
    const select = element("select", {"aria-label": "run", change: () => { place.replaceChildren(); show(place, fitting[select.value]); }},
      fitting.map((run, i) => element("option", {value: i}, run.name)));
    where.append(element("div", {class: "bar"}, element("label", {}, "Run ", select)));
  }
  where.append(place);
  show(place, fitting[0]);
}

const inOrder = (count) => Array.from({length: count}, (_, i) => i);

// ---- load over time

function showLoads(runs) {
  if (!runs.some((run) => run.loads)) return;
  const where = section("load", "Experts over time",
    "Each row is an expert, each column a time of the training. Blue experts get fewer tokens than the mean, orange ones more. A healthy layer is pale; a row that stays blue is an expert that is hardly used.");
  where.append(element("div", {class: "bar"}, loadScale(["¼ of the mean or less", "4 times the mean or more"])));
  forOneRun(where, runs, (run) => run.loads, (place, run) => {
    let sorted = false;
    const maps = [];
    const heats = element("div", {class: "heats"});
    place.append(element("div", {class: "bar"}, choice("order of the experts", [[false, "By number"], [true, "By load at the end"]], false,
      (value) => { sorted = value; maps.forEach((map) => map.redraw()); })), heats);
    for (const {layer, loads} of run.loads.layers) {
      const experts = loads[0].length, last = loads.slice(-Math.max(1, Math.round(loads.length / 10)));
      const end = inOrder(experts).map((expert) => last.reduce((sum, load) => sum + load[expert], 0));
      const byLoad = inOrder(experts).sort((a, b) => end[b] - end[a]);
      const expertAt = (row) => (sorted ? byLoad[row] : row);
      const card = element("div", {class: "card"}, element("h3", {}, `Layer ${layer}`));
      heats.append(card);
      maps.push(heatMap(card, {
        name: `load over time, layer ${layer}, ${run.name}`, rows: experts, columns: loads.length, height: 330,
        rowTitle: "expert", columnTitle: "step",
        value: (row, column) => loads[column][expertAt(row)],
        rowLabel: (row) => String(expertAt(row)), columnLabel: (column) => short(run.loads.steps[column]),
        tell: (row, column) => `expert ${expertAt(row)}, step ${number(run.loads.steps[column])}\n${number(loads[column][expertAt(row)], 3)} times the mean load`,
      }));
    }
  });
}

// ---- domains

/// Of a layer of an evaluation: the experts' shares by domain, and an order that brings the experts of a domain together.
class LayerUse {
  constructor(layer) {
    this.layer = layer.layer;
    this.load = layer.load;
    this.experts = layer.load.length;
    this.domains = Object.keys(layer.domains).filter((name) => layer.domains[name].some((share) => share > 0));
    this.shares = this.domains.map((name) => layer.domains[name]);
    this.order = inOrder(this.experts).sort((a, b) =>
      this.mainDomain(a) - this.mainDomain(b) || this.part(this.mainDomain(b), b) - this.part(this.mainDomain(a), a));
  }

  /// A domain's share of what the expert reads, if all domains had as many tokens.
  part(domain, expert) {
    const sum = this.shares.reduce((total, shares) => total + shares[expert], 0);
    return sum > 0 ? this.shares[domain][expert] / sum : 0;
  }

  mainDomain(expert) {
    return inOrder(this.domains.length).reduce((best, domain) => (this.part(domain, expert) > this.part(best, expert) ? domain : best), 0);
  }

  /// The load that the domain alone gives the expert, as a multiple of the mean.
  load_of(domain, expert) { return this.shares[domain][expert] * this.experts; }
}

function showDomains(runs) {
  const has = (run) => Boolean(run.evaluation?.routing?.layers?.length);
  const where = section("domains", "Which expert reads what",
    "How the tokens of each domain were divided among the experts, on text that was not trained on. Orange: the domain chooses this expert more often than the mean expert. Experts are put together by the domain that uses them most. Click on one to see its tokens.");
  if (!runs.some(has)) {
    where.append(element("p", {class: "note"}, "No evaluation was found. This command writes one, then make this page again: "),
      element("pre", {}, `moe eval loss ${runs[0].folder}/latest TEXT.jsonl --analyse --json ${runs[0].folder}/eval.json`));
    return;
  }
  where.append(element("div", {class: "bar"}, loadScale(["¼ of the mean or less", "4 times the mean or more"])));
  forOneRun(where, runs, has, (place, run) => {
    showScores(place, run.evaluation);
    const uses = run.evaluation.routing.layers.map((layer) => new LayerUse(layer));
    const heats = element("div", {class: "heats", style: {marginTop: "14px"}});
    const cards = element("div");
    place.append(heats, cards);
    const showCards = (at, chosen) => showExperts(cards, run, uses, at, chosen);
    uses.forEach((use, at) => {
      const card = element("div", {class: "card"}, element("h3", {}, `Layer ${use.layer}`));
      heats.append(card);
      heatMap(card, {
        name: `domains, layer ${use.layer}, ${run.name}`, rows: use.domains.length, columns: use.experts, least: 26, height: 30 * use.domains.length,
        columnTitle: "expert",
        value: (row, column) => use.load_of(row, use.order[column]),
        rowLabel: (row) => use.domains[row], columnLabel: (column) => String(use.order[column]),
        tell: (row, column) => {
          const expert = use.order[column];
          return `layer ${use.layer}, expert ${expert}\n${percent(use.shares[row][expert])} of the choices of ${use.domains[row]}\n${number(use.load_of(row, expert), 3)} times the mean`;
        },
        click: (row, column) => showCards(at, use.order[column]),
      });
    });
    showCards(0, null);
    showTogether(run, uses);
  });
}

function showScores(place, evaluation) {
  const rows = Object.entries(evaluation.domains).map(([name, score]) => [name, ...scoreCells(score)]);
  if (rows.length > 1) rows.push([element("b", {}, "all"), ...scoreCells(evaluation.all)]);
  place.append(element("div", {class: "card"}, table(["domain", ...["documents", "tokens", "loss", "perplexity", "bits per byte"]
    .map((text) => ({text, number: true}))], rows)));
}

function scoreCells(score) {
  const error = (value) => (known(value) ? ` ± ${number(value, 2)}` : "");
  return [number(score.documents), number(score.tokens), `${number(score.loss)}${error(score.loss_error)}`, number(score.perplexity, 3),
    `${number(score.bits_per_byte, 4)}${error(score.bits_per_byte_error)}`].map((text) => ({text, number: true}));
}

function showExperts(place, run, uses, at, chosen) {
  const use = uses[at];
  const tokens = run.evaluation.choices?.layers?.[at]?.experts ?? null;
  const choose = element("select", {"aria-label": "layer", change: () => showExperts(place, run, uses, Number(choose.value), null)},
    uses.map((one, i) => element("option", {value: i, selected: i === at}, `Layer ${one.layer}`)));
  place.replaceChildren(element("div", {class: "bar"}, element("label", {}, "Experts of ", choose),
    element("span", {class: "small"}, tokens ? "with the tokens that chose them in the largest share of their occurrences"
      : "moe eval loss --analyse adds the tokens of each expert")));
  const grid = element("div", {class: "experts"});
  place.append(grid);
  for (const expert of use.order) grid.append(expertCard(use, expert, tokens?.[expert], expert === chosen));
  if (chosen !== null) grid.querySelector(".chosen").scrollIntoView({block: "center", behavior: "smooth"});
}

function expertCard(use, expert, tokens, chosen) {
  const parts = inOrder(use.domains.length).map((domain) => [domain, use.part(domain, expert)]).sort((a, b) => b[1] - a[1]);
  const [main, share] = parts[0];
  const unused = use.load[expert] === 0;
  const words = unused ? "no token chose it" : use.domains.length < 2 ? "" : share < 1.35 / use.domains.length ? "reads all domains"
    : `${use.domains[main]} ${percent(Math.round(share * 100) / 100)}${parts[1][1] > 0.2 ? `, ${use.domains[parts[1][0]]} ${percent(Math.round(parts[1][1] * 100) / 100)}` : ""}`;
  const strip = element("div", {style: {display: "flex", height: "6px", borderRadius: "3px", overflow: "hidden", marginTop: "6px", background: "var(--grid)"}},
    parts.sort((a, b) => a[0] - b[0]).map(([domain, part]) => element("i", {title: `${use.domains[domain]} ${percent(part)}`,
      style: {width: `${100 * part}%`, background: `var(--series-${domain % 8 + 1})`}})));
  return element("div", {class: chosen ? "expert chosen" : "expert"},
    element("div", {class: "head"}, element("span", {class: "name"}, `Expert ${expert}`),
      element("span", {class: "small number"}, `${number(use.load[expert] * use.experts, 2)} × mean load`)),
    element("div", {class: "small"}, words), strip,
    tokens?.length ? element("div", {class: "tokens"}, tokens.map((token) =>
      element("span", {class: "token mono", title: `${percent(token.share)} of ${token.seen} occurrences`}, shownToken(token.text)))) : null);
}

/// A token of spaces alone would look like an empty box.
function shownToken(text) {
  return /^ +$/.test(text) ? (text.length > 1 ? `␣×${text.length}` : "␣") : text;
}

// ---- pairs

function showTogether(run, uses) {
  const layers = run.evaluation.choices?.layers;
  document.getElementById("together")?.parentElement.remove();
  if (!layers) return;
  const where = section("together", "Experts that work together",
    "Orange: the same tokens chose both experts more often than if choices were independent. Blue: less often. Experts have the order of the pictures above.");
  where.append(element("div", {class: "bar"}, loadScale(["¼ as often or less", "4 times as often or more"])));
  const heats = element("div", {class: "heats"});
  where.append(heats);
  layers.forEach(({layer, coactivation}, at) => {
    const order = uses[at].order, size = order.length;
    const taken = (i) => coactivation[i][i];
    let pairs = 0, products = 0;
    for (let i = 0; i < size; ++i) {
      for (let j = 0; j < i; ++j) {
        pairs += coactivation[i][j];
        products += taken(i) * taken(j);
      }
    }
    const expected = (i, j) => (products > 0 ? pairs * taken(i) * taken(j) / products : 0);
    const card = element("div", {class: "card"}, element("h3", {}, `Layer ${layer}`));
    heats.append(card);
    heatMap(card, {
      name: `pairs, layer ${layer}, ${run.name}`, rows: size, columns: size, square: true, columnTitle: "expert", rowTitle: "expert",
      value: (row, column) => {
        const i = order[row], j = order[column];
        return i === j ? null : expected(i, j) > 0 ? coactivation[i][j] / expected(i, j) : NaN;
      },
      rowLabel: (row) => String(order[row]), columnLabel: (column) => String(order[column]),
      tell: (row, column) => {
        const i = order[row], j = order[column];
        return i === j ? `expert ${i}\n${number(taken(i))} tokens`
          : `experts ${i} and ${j}\n${number(coactivation[i][j])} tokens chose both\n${number(expected(i, j))} if choices were independent`;
      },
    });
  });
}
