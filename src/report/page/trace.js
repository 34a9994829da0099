"use strict";
// The page of `moe trace`: every token in the colours of its experts, layer by layer. data: eval/token_trace.h.

const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
// Neighbouring numbers get hues far apart.
const expertColour = (expert) => `hsl(${(expert * 137.508) % 360}deg ${dark() ? "55% 30%" : "75% 82%"})`;

/// The experts of a token as stripes, each as wide as its share of the gates.
function stripes(experts) {
  const sum = experts.reduce((total, [, gate]) => total + Math.abs(gate), 0) || 1;
  let at = 0;
  const parts = experts.map(([expert, gate]) => {
    const begin = at;
    at += 100 * Math.abs(gate) / sum;
    return `${expertColour(expert)} ${begin.toFixed(1)}% ${at.toFixed(1)}%`;
  });
  return parts.length ? `linear-gradient(to bottom, ${parts.join(", ")})` : "none";
}

function shownText(text) {
  return text.replace(/^ /, "\u00b7");
}

/// A layer: its text, and its experts as buttons that leave only their tokens in colour.
function layerCard(layer) {
  let only = null;
  const words = data.tokens.map((token, i) => {
    const experts = layer.tokens[i];
    return element("span", {class: "word mono", pointermove: (event) => showTip([`“${token.text}” (id ${token.id})`,
      known(token.loss) ? `loss ${number(token.loss, 3)}` : "the first token", ...experts.map(([expert, gate]) => `expert ${expert}: ${number(gate, 3)}`)].join("\n"),
      event.clientX, event.clientY), pointerleave: hideTip}, shownText(token.text));
  });
  const paint = () => words.forEach((word, i) => {
    const experts = layer.tokens[i];
    word.style.background = only === null || experts.some(([expert]) => expert === only) ? stripes(only === null ? experts : [[only, 1]]) : "none";
    word.style.opacity = only === null || experts.some(([expert]) => expert === only) ? 1 : 0.35;
  });
  const used = layer.counts.map((count, expert) => [expert, count]).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  const buttons = used.map(([expert, count]) => element("button", {type: "button", "aria-pressed": "false", click: (event) => {
    const pressed = only !== expert;
    only = pressed ? expert : null;
    buttons.forEach((button) => button.setAttribute("aria-pressed", "false"));
    event.currentTarget.setAttribute("aria-pressed", String(pressed));
    paint();
  }}, element("span", {class: "dot"}), `${expert}`, element("span", {class: "small"}, ` ${count}`)));
  const paintAll = () => {
    paint();
    used.forEach(([expert], i) => { buttons[i].querySelector(".dot").style.background = expertColour(expert); });
  };
  paintAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintAll);
  return element("div", {class: "card wide"}, element("h3", {}, `Layer ${layer.layer}`), element("div", {class: "words"}, words),
    element("p", {class: "small", style: {margin: "14px 0 6px"}}, "Experts and their tokens. Choose one to see its tokens alone."),
    element("div", {class: "legend plain"}, buttons));
}

page.append(element("header", {class: "top"}, element("h1", {}, "Experts of a text"), element("span", {class: "small"}, data.model)),
  element("p", {class: "lead", style: {marginTop: "10px"}},
    `Each token has the colours of the experts that it chose in a layer, of ${data.experts}. A stripe is as high as the expert's share of the gates. Point at a token for the numbers.`),
  element("div", {class: "cards"}, data.layers.map(layerCard)));
if (location.hash === "#check") document.documentElement.dataset.words = page.querySelectorAll(".word").length;
finish();
