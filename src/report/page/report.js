"use strict";
// The page of `moe report`: data.runs has what src/report/runs.h says.

const runs = data.runs;

const states = {
  running: ["running", ""], done: ["done", "good"], stopped: ["stopped by a signal", "warn"], diverged: ["diverged", "bad"], failed: ["failed", "bad"],
};

const dotOf = (i) => element("span", {class: "dot", style: {background: `var(--series-${i % 8 + 1})`}});

function lastKnown(column) {
  for (let i = column.length - 1; i >= 0; --i) if (known(column[i])) return column[i];
  return null;
}

function fact(label, value, unit) {
  return element("div", {class: "fact"}, element("div", {class: "value"}, value, unit ? element("span", {class: "unit"}, ` ${unit}`) : null),
    element("div", {class: "label"}, label));
}

function showTop() {
  const title = runs.length === 1 ? runs[0].name : `${runs.length} runs`;
  page.append(element("header", {class: "top"}, element("h1", {}, title),
    element("span", {class: "small"}, `${data.made.program} · ${data.made.time.replace("T", " ").replace("Z", " UTC")}`)));
  const nav = element("nav", {"aria-label": "parts of the page"});
  page.append(nav);
  return nav;
}

function fillNavigation(nav) {
  for (const part of page.querySelectorAll("section")) {
    nav.append(element("a", {href: `#${part.querySelector("h2").id}`}, part.dataset.title));
  }
}

function runCard(run, i) {
  const status = run.status ?? {};
  const [word, kind] = states[status.state] ?? ["no status", ""];
  const best = run.evaluations.filter((one) => known(one.loss)).at(-1);
  const about = run.about ?? {};
  const tokens = lastKnown(run.curves.tokens), seconds = lastKnown(run.curves.seconds);
  return element("div", {class: "card"},
    element("div", {class: "run-name"}, runs.length > 1 ? dotOf(i) : null, runs.length > 1 ? run.name : "Result",
      element("span", {class: `badge ${kind}`}, word), run.warnings.length ? element("span", {class: "badge warn"}, run.warnings.length === 1 ? "1 warning" : `${run.warnings.length} warnings`) : null),
    element("div", {class: "facts"},
      best ? fact("validation loss", number(best.loss)) : null,
      fact("training loss", number(lastKnown(run.curves.loss))),
      fact("steps", number(run.steps), known(status.steps) && status.steps !== run.steps ? `of ${number(status.steps)}` : ""),
      fact("tokens", short(tokens)),
      fact("training time", duration(seconds)),
      fact("tokens per second", short(run.tokens_per_second)),
      known(about.parameters) ? fact("parameters", short(about.parameters)) : null,
      known(about.activated_parameters) ? fact("used per token", short(about.activated_parameters)) : null),
    about.device ? element("p", {class: "small", style: {margin: "14px 0 0"}}, [about.method, about.device, about.program].filter(Boolean).join(" · ")) : null);
}

function showOverview() {
  const where = element("div", {class: "cards"}, runs.map(runCard));
  page.append(where);
  for (const run of runs) {
    const of = runs.length > 1 ? `${run.name}: ` : "";
    if (run.status?.why) page.append(element("p", {class: "note bad"}, `${of}${run.status.why}`));
    for (const warning of run.warnings) page.append(element("p", {class: "note warn"}, `${of}${warning.text}`));
    for (const change of run.changes) {
      page.append(element("p", {class: "note"}, `${of}resumed at step ${change.step} with ${change.key} = ${change.to} instead of ${change.from}`));
    }
  }
}

// ---- the plan beside what happened

/// Planned and measured, with a bar for their proportion.
function compared(planned, measured, text) {
  if (!known(measured)) return {text: "–", number: true};
  const share = known(planned) && planned > 0 ? measured / planned : null;
  return {number: true, text: [text(measured), share === null ? null : element("span", {class: "small"}, ` ${percent(Number(share.toPrecision(2)))}`),
    share === null ? null : element("span", {class: "meter", title: `${percent(share)} of the plan`}, element("i", {style: {width: `${Math.min(100, 100 * share)}%`}}))]};
}

function planRow(run, i) {
  const plan = run.about?.plan ?? {};
  const onHost = (run.status?.peak_host_bytes ?? 0) > 0 && !/NVIDIA|GPU|CUDA/i.test(run.about?.device ?? "");
  const memory = onHost ? run.status.peak_host_bytes : run.peak_bytes;
  const steps = run.steps, tokens = lastKnown(run.curves.tokens), seconds = lastKnown(run.curves.seconds);
  const plannedRate = known(plan.step_seconds) && steps > 0 ? tokens / steps / plan.step_seconds : null;
  return [element("span", {class: "run-name"}, runs.length > 1 ? dotOf(i) : null, run.name),
    {text: bytes(plan.memory_bytes), number: true}, compared(plan.memory_bytes, memory, bytes),
    {text: known(plannedRate) ? short(plannedRate) : "–", number: true}, compared(plannedRate, run.tokens_per_second, short),
    {text: known(plan.step_seconds) ? duration(plan.step_seconds * steps) : "–", number: true}, compared(plan.step_seconds * steps, seconds, duration),
    {text: known(plan.step_flops) ? short(plan.step_flops * steps) : "–", number: true},
    {text: known(plan.step_flops) && seconds > 0 ? `${short(plan.step_flops * steps / seconds)}/s` : "–", number: true}];
}

function showPlan() {
  if (!runs.some((run) => run.about?.plan)) return;
  const where = section("plan", "The plan and what happened",
    "What was known before the first step, beside what was measured. The planned time is an estimate from the speed of one large product. The percentage is of the plan.");
  where.append(element("div", {class: "card"}, table(["run", ...["memory, planned", "memory, most used", "tokens/s, estimated", "tokens/s, median", "time, estimated", "time of steps", "FLOPs", "FLOP/s"]
    .map((text) => ({text, number: true}))], runs.map(planRow))));
}

// ---- samples

function showSamples() {
  if (!runs.some((run) => run.samples.length)) return;
  const where = section("samples", "What the model wrote", "The same prompts (sample.prompts), continued at different times of the training.");
  forOneRun(where, runs, (run) => run.samples.length, (place, run) => {
    const prompts = [...new Set(run.samples.flatMap((line) => line.samples.map((sample) => sample.prompt)))];
    const list = element("div", {class: "card"});
    const show = (prompt) => {
      const lines = run.samples.flatMap((line) => line.samples.filter((sample) => sample.prompt === prompt).map((sample) => [line.step, sample.text]));
      list.replaceChildren(...lines.map(([step, text]) => element("div", {class: "sample"}, element("div", {class: "small number"}, `step ${number(step)}`),
        element("div", {class: "text"}, element("span", {class: "prompt"}, prompt), text))));
    };
    const shownPrompt = (prompt) => (prompt.length > 40 ? `${prompt.slice(0, 40)}…` : prompt) || "(nothing)";
    if (prompts.length > 1) {
      const select = element("select", {"aria-label": "prompt", change: () => show(prompts[select.value])},
        prompts.map((prompt, i) => element("option", {value: i}, shownPrompt(prompt))));
      place.append(element("div", {class: "bar"}, element("label", {}, "Prompt ", select)));
    }
    place.append(list);
    show(prompts[0]);
  });
}

// ---- settings

/// {"section.key": value} of a run file, as text.
function settingsOf(text) {
  const settings = {};
  let sectionName = "";
  for (const line of text.split("\n")) {
    const head = line.match(/^\[(.*)\]\s*$/);
    const pair = line.match(/^([\w.-]+)\s*=\s*(.*)$/);
    if (head) sectionName = `${head[1]}.`;
    else if (pair) settings[sectionName + pair[1]] = pair[2];
  }
  return settings;
}

function runFile(text, differing) {
  let sectionName = "";
  return element("pre", {}, text.split("\n").map((line) => {
    const head = line.match(/^\[(.*)\]\s*$/);
    const pair = line.match(/^([\w.-]+)(\s*=\s*)(.*)$/);
    if (head) {
      sectionName = `${head[1]}.`;
      return element("span", {class: "section"}, `${line}\n`);
    }
    if (!pair) return `${line}\n`;
    return element("span", {class: differing.has(sectionName + pair[1]) ? "other" : null}, element("span", {class: "key"}, pair[1]),
      element("span", {class: "value"}, `${pair[2]}${pair[3]}\n`));
  }));
}

function showSettings() {
  const all = runs.map((run) => settingsOf(run.run_file));
  const keys = [...new Set(all.flatMap((settings) => Object.keys(settings)))];
  const differing = new Set(runs.length < 2 ? [] : keys.filter((key) => all.some((settings) => settings[key] !== all[0][key])));
  const where = section("settings", "Settings", "Every key in effect (run.toml).");
  const shown = [...differing].filter((key) => key !== "run.dir");
  if (shown.length) {
    where.append(element("div", {class: "card"}, element("h3", {}, "What differs"), table(["key", ...runs.map((run) => run.name)],
      shown.map((key) => [element("code", {}, key), ...all.map((settings) => element("code", {}, settings[key] ?? "–"))]))));
  }
  const files = element("div", {class: "cards"});
  where.append(files);
  runs.forEach((run, i) => {
    files.append(element("div", {class: runs.length === 1 ? "card wide" : "card"}, element("details", {open: runs.length === 1},
      element("summary", {}, runs.length > 1 ? dotOf(i) : null, ` ${run.folder}/run.toml`), runFile(run.run_file, differing))));
  });
}

const nav = showTop();
showOverview();
showCurves(runs);
showPlan();
showLoads(runs);
showDomains(runs);
showCausal(runs);
showSamples();
showSettings();
fillNavigation(nav);
finish();
