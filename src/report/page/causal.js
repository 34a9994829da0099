"use strict";
// What a run's model loses without each of its experts, beside their loads: the file of `moe eval causal --json`.

function showCausal(runs) {
  const has = (run) => Boolean(run.causal);
  if (!runs.some(has)) return;
  const where = section("causal", "Which experts matter",
    "How much the loss of a text rises if an expert is masked, so that every token passes it over. Each column is an expert, the largest rise on the left. The first row is its load. An expert that is orange above and blue below is busy, but others do its work as well.");
  where.append(element("div", {class: "bar"}, loadScale(["¼ of the layer's mean or less", "4 times the mean or more"])));
  forOneRun(where, runs, has, (place, run) => {
    const {causal} = run, names = Object.keys(causal.domains);
    place.append(element("p", {class: "small"},
      `${number(causal.tokens)} tokens of ${number(causal.documents)} documents; the loss with all experts is ${number(causal.loss)} nats per token`));
    const heats = element("div", {class: "heats"});
    place.append(heats);
    for (const layer of causal.layers) heats.append(causalCard(run, layer, names.length > 1 ? names : []));
  });
}

const signed = (value) => (known(value) ? `${value > 0 ? "+" : ""}${number(value, 3)}` : "–");

function causalCard(run, layer, domains) {
  const {experts} = layer;
  const mean = (of) => experts.reduce((sum, expert) => sum + of(expert), 0) / experts.length;
  const meanLoad = mean((expert) => expert.load), meanChange = mean((expert) => Math.abs(expert.change.all.difference));
  const labels = ["load", "all text", ...domains];
  const changeOf = (row, expert) => (row === 1 ? expert.change.all : expert.change.domains[labels[row]]);
  const card = element("div", {class: "card"}, element("h3", {}, `Layer ${layer.layer}`));
  heatMap(card, {
    name: `causal, layer ${layer.layer}, ${run.name}`, rows: labels.length, columns: experts.length, least: 26, height: 30 * labels.length,
    columnTitle: "expert",
    value: (row, column) => {
      if (row === 0) return meanLoad > 0 ? experts[column].load / meanLoad : NaN;
      const {difference} = changeOf(row, experts[column]);
      return meanChange > 0 && known(difference) ? difference / meanChange : NaN;
    },
    rowLabel: (row) => labels[row], columnLabel: (column) => String(experts[column].expert),
    tell: (row, column) => {
      const expert = experts[column], title = `layer ${layer.layer}, expert ${expert.expert}\n`;
      if (row === 0) return `${title}${percent(expert.load)} of the tokens chose it\nmean gate ${number(expert.gate, 3)}`;
      const change = changeOf(row, expert);
      return `${title}without it, ${row === 1 ? "all text" : labels[row]}: ${signed(change.difference)}${known(change.error) ? ` ± ${number(change.error, 2)}` : ""} nats per token`;
    },
  });
  const list = (numbers) => (numbers.length ? numbers.join(", ") : "none");
  card.append(element("p", {class: "small"}, `Busy, but matter little: ${list(layer.busy)}`),
    element("p", {class: "small"}, `Quiet, but matter: ${list(layer.quiet)}`),
    element("p", {class: "small"}, `Rank correlation of load and rise: ${number(layer.rank_correlation, 2)}`));
  if (layer.shared) card.append(element("p", {class: "small"}, `Without the shared experts: ${signed(layer.shared.all.difference)} nats per token`));
  return card;
}
