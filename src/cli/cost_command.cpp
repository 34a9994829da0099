#include <cmath>
#include <limits>
#include <memory>

#include "base/error.h"
#include "base/output.h"
#include "base/units.h"
#include "checkpoint/open_model.h"
#include "cli/commands.h"
#include "cli/cost_layouts.h"
#include "cli/device_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "formats/json.h"
#include "measure/machine.h"
#include "model/cost.h"
#include "model/paper_costs.h"
#include "model/presets.h"
#include "train/amounts.h"
#include "train/read_run_config.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Computes the cost of a model of any size from its shape, without allocating it. As in the DeepSeekMoE paper,
parameters include both embeddings but not the routers. In a model without routed experts, all FFNs count as experts.
FLOPs are those of forward and backward for one sequence: once by the paper's convention (attention not halved), once
with causal attention and with the routers. Training memory is the plan of `moe train`. Inference needs the weights
and, for each sequence, keys and values. --measure (or the rates that `moe bench machine` prints) adds the most tokens
per second that a device's products and memory allow; docs/performance.md says which share of it is reached.

--ranks plans training with AdamW on several cards: data parallel (dp), experts of a layer over ranks (ep), layers over
ranks (pp). It prints what fits, and proposes the layout that is predicted to be fastest; with --layout it plans that
one. --rows and --recompute are chosen for each layout unless they are given. docs/parallelism.md says how figures are
computed, and which layouts `moe train` runs.

Examples:
  moe cost --preset deepseekmoe-16b
  moe cost --preset deepseekmoe-2b --rows 32 --product-tflops 780 --read-gb-per-s 3900
  moe cost --config configs/demo.toml --measure
  moe cost --preset deepseekmoe-16b --ranks 8 --card h100
  moe cost --preset deepseekmoe-145b --ranks 32 --layout dp=1,ep=4,pp=8 --card h200
  moe cost runs/demo/latest --json
  moe cost --paper
Presets: )";

/// Of tokens in a microbatch, and so of its rows and of their length.
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();

struct CostFlags {
  std::string preset, config, model;
  bool paper = false;
  bool json = false;
  int64_t rows = 1;
  int64_t length = 0;
  std::string dtype;  ///< "": from the run file, else bf16
  bool recompute = false;
  bool measure = false;
  double product_tflops = 0;
  double read_gb_per_s = 0;
  bool rows_given = false;
  LayoutFlags layouts;
  DeviceOptions device;
};

struct Source {
  ModelConfig config;
  int64_t length;
  std::string dtype = "bf16";
  int64_t rows_per_step = 0;  ///< 0: not known
};

Source source_of(const CostFlags& flags) {
  if (!flags.preset.empty()) {
    const ModelConfig& config = find_preset(flags.preset).config;
    return {.config = config, .length = config.max_position_embeddings};
  }
  if (!flags.config.empty()) {
    Settings settings = Settings::load(flags.config);
    const RunConfig run = read_run_config(settings);
    return {run.model, run.data.sequence_length, name(run.step.dtype), run.data.rows_per_step};
  }
  const ModelConfig config = read_model_config(flags.model);
  return {.config = config, .length = config.max_position_embeddings};
}

/// Parameters of the FFNs that are experts: shared and routed ones. Without routed ones, all FFNs.
int64_t expert_params(const ModelConfig& config, const ParameterCounts& counts, bool activated) {
  const auto of = [&](ParameterKind kind) { return activated ? counts.activated(kind) : counts.stored(kind); };
  if (config.n_routed_experts == 0) return of(ParameterKind::dense_ffn);
  return of(ParameterKind::routed_experts) + of(ParameterKind::shared_experts);
}

StepConfig step_of(const CostFlags& flags, const Source& source) {
  StepConfig step;
  step.dtype = parse_dtype_option(flags.dtype);
  step.recompute = flags.recompute;
  step.sequence_length = source.length;
  step.balance.alpha_expert = 0.001f;
  return step;
}

Json training_json(const CostFlags& flags, const Source& source) {
  StepConfig step = step_of(flags, source);
  step.microbatch_tokens = flags.rows * source.length;
  step.microbatches = 2;  // with only one, the activations would overlap the gradients' memory
  step.logits_per_chunk = logits_per_chunk(device_kind(flags.device), source.config.vocab_size);
  const MemoryPlan plan = plan_training(source.config, step);
  return {{"dtype", flags.dtype},
          {"rows", flags.rows},
          {"recompute", flags.recompute},
          {"weights_gib", gib(plan.parameters)},
          {"gradients_gib", gib(plan.gradients)},
          {"optimizer_gib", gib(plan.optimizer)},
          {"activations_gib", gib(plan.saved_alone() + plan.scratch)},
          {"batch_gib", gib(plan.batch)},
          {"total_gib", gib(plan.total())}};
}

Json inference_json(const Source& source) {
  const ModelConfig& config = source.config;
  Json json = Json::object();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double size = bytes_per_element(dtype);
    const double position = position_bytes(config, storage(dtype).activations);
    json[name(dtype)] = {{"weights_gib", gib(static_cast<double>(ParameterCounts(config).stored()) * size)},
                         {"kv_cache_bytes_per_token", position},
                         {"kv_cache_gib_per_sequence", gib(position * static_cast<double>(source.length))},
                         {"bytes_read_per_token", token_bytes(config, dtype, source.length / 2)}};
  }
  return json;
}

/// The largest number of tokens per second at these rates; null if no rate is known.
Json limits_json(const CostFlags& flags, const Source& source) {
  double product = 1e12 * flags.product_tflops, read = 1e9 * flags.read_gb_per_s;
  const DType dtype = parse_dtype_option(flags.dtype);
  std::string device = "as given";
  if (flags.measure) {
    constexpr int64_t kProductSize = 4096, kReadBytes = int64_t{512} << 20;
    Compute compute = make_compute(flags.device);
    product = measure_product(*compute.backend, *compute.device, dtype, kProductSize, 3);
    read = measure_read(*compute.backend, *compute.device, kReadBytes, 3);
    device = compute.device->info().name;
  }
  if (product == 0 && read == 0) return {};
  const ModelConfig& config = source.config;
  const auto length = static_cast<double>(source.length);
  const auto limit = [](double work, double rate) { return rate > 0 ? Json(rate / work) : Json(); };
  return {{"device", device},
          {"product_tflops", 1e-12 * product},
          {"read_gb_per_s", 1e-9 * read},
          {"training_tokens_per_s", limit(exact_flops(config, source.length) / length, product)},
          {"prompt_tokens_per_s", limit(prompt_flops(config, source.length) / length, product)},
          {"decode_tokens_per_s", limit(token_bytes(config, dtype, source.length / 2), read)}};
}

Json layouts_of(const CostFlags& flags, const Source& source) {
  LayoutChoices choices;
  if (flags.rows_given) choices.rows = flags.rows;
  if (flags.recompute) choices.recompute = true;
  return layouts_json(flags.layouts, source.config, step_of(flags, source), source.rows_per_step, choices);
}

Json cost_json(const CostFlags& flags, const Source& source) {
  const ModelConfig& config = source.config;
  const ParameterCounts counts(config);
  return {{"total_params", counts.paper_total()},
          {"activated_params", counts.paper_activated()},
          {"total_expert_params", expert_params(config, counts, false)},
          {"activated_expert_params", expert_params(config, counts, true)},
          {"router_params", counts.stored(ParameterKind::router)},
          {"sequence_length", source.length},
          {"flops_per_sequence", paper_flops(config, source.length)},
          {"flops_per_sequence_causal", exact_flops(config, source.length)},
          {"training", training_json(flags, source)},
          {"inference", inference_json(source)},
          {"limits", limits_json(flags, source)},
          {"layouts", layouts_of(flags, source)}};
}

void print_cost(const Json& j) {
  const auto count = [&](const char* key) { return count_text(j.at(key).get<int64_t>()); };
  const auto flops = [&](const char* key) { return flops_text(j.at(key).get<double>()); };
  const auto bytes = [](const Json& gibibytes) { return bytes_text(std::llround(gibibytes.get<double>() * 0x1p30)); };
  print_output("parameters   {}, of which a token uses {} (embeddings counted, routers not)\n", count("total_params"),
               count("activated_params"));
  print_output("of experts   {}, of which a token uses {}\n", count("total_expert_params"),
               count("activated_expert_params"));
  print_output("a sequence   {}: {} by the paper's convention, {} as causal products\n",
               counted(j.at("sequence_length").get<int64_t>(), "token"), flops("flops_per_sequence"),
               flops("flops_per_sequence_causal"));
  const Json& t = j.at("training");
  print_output(
      "training     {} in {}: weights {}, gradients {}, optimizer {}, activations {}\n"
      "             (microbatch of {}{})\n",
      bytes(t.at("total_gib")), t.at("dtype").get<std::string>(), bytes(t.at("weights_gib")),
      bytes(t.at("gradients_gib")), bytes(t.at("optimizer_gib")), bytes(t.at("activations_gib")),
      counted(t.at("rows").get<int64_t>(), "row"),
      t.at("recompute").get<bool>() ? ", layers run again in backward" : "");
  for (const auto& [dtype, i] : j.at("inference").items()) {
    print_output("inference    {:<4} weights {}, keys and values {} a sequence ({:.0f} bytes a token)\n", dtype,
                 bytes(i.at("weights_gib")), bytes(i.at("kv_cache_gib_per_sequence")),
                 i.at("kv_cache_bytes_per_token").get<double>());
  }
  const Json& limits = j.at("limits");
  if (limits.is_null()) return;
  const auto tokens = [&](const char* key) {
    return limits.at(key).is_null() ? std::string("?") : fmt::format("{:.5g}", limits.at(key).get<double>());
  };
  print_output(
      "at most      {} tokens/s in training, {} in prompts, {} token by token\n"
      "             ({}: products {:.4g} TFLOP/s, reading {:.4g} GB/s)\n",
      tokens("training_tokens_per_s"), tokens("prompt_tokens_per_s"), tokens("decode_tokens_per_s"),
      limits.at("device").get<std::string>(), limits.at("product_tflops").get<double>(),
      limits.at("read_gb_per_s").get<double>());
}

void print_paper(bool json) {
  Json rows = Json::array();
  for (const PaperFigure& f : paper_figures()) {
    rows.push_back({{"model", f.model},
                    {"quantity", f.quantity},
                    {"paper", f.paper},
                    {"ours", f.ours},
                    {"agrees", f.agrees()},
                    {"note", f.note}});
  }
  if (json) return print_output("{}\n", json_text(rows, 2));
  print_output("Parameters in billions and FLOPs of a sequence in 10^12, widths as exact fractions of 8/3 d\n\n");
  print_output("{:<23}{:<18}{:>9}{:>11}{:>10}\n", "model", "", "paper", "ours", "differs");
  for (const PaperFigure& f : paper_figures()) {
    print_output("{:<23}{:<18}{:>9.{}f}{:>11.{}f}{:>9.1f}%  {}{}\n", f.model, f.quantity, f.paper, f.decimals, f.ours,
                 f.decimals + 2, 100 * (f.ours / f.paper - 1), f.agrees() ? "" : "DIFFERS: ", f.note);
  }
}

void cost(CostFlags flags) {
  const int sources = !flags.preset.empty() + !flags.config.empty() + !flags.model.empty();
  if (flags.paper && sources == 0 && flags.layouts.ranks == 0) return print_paper(flags.json);
  if (flags.paper) {
    fail_usage("--paper is about the paper's models alone; leave out --preset, --config, MODEL_DIR and --ranks");
  }
  if (sources != 1) fail_usage("give one of --preset, --config, MODEL_DIR and --paper");
  Source source = source_of(flags);
  if (flags.length > 0) source.length = flags.length;
  if (flags.dtype.empty()) flags.dtype = source.dtype;
  const Json json = cost_json(flags, source);
  if (flags.json) return print_output("{}\n", json_text(json, 2));
  print_cost(json);
  print_layouts(json.at("layouts"));
}

}  // namespace

void add_cost_command(CLI::App& app) {
  auto flags = std::make_shared<CostFlags>();
  CLI::App* command = app.add_subcommand("cost", "Parameters, FLOPs and memory of a model of any size");
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.push_back(preset.name);
  command->footer(fmt::format("{}{}", kHelp, fmt::join(names, " ")));
  add_model_option(*command, flags->model, "folder with a config.json");
  command->add_option("--preset", flags->preset, "name of a model of the paper")->type_name("NAME");
  command->add_option("--config", flags->config, "the model of this run file")->type_name("FILE");
  command->add_flag("--paper", flags->paper, "compute the paper's table again, beside its own numbers");
  const CLI::Option* const rows =
      add_number(*command, "--rows", flags->rows, {1, kMost}, "sequences in a microbatch of training");
  add_number(*command, "--length", flags->length, {1, kMost},
             "tokens in a sequence (default: the preset's, the run file's or the model's)", false);
  command->add_flag("--recompute", flags->recompute,
                    "compute layers again in backward instead of keeping their activations");
  command->add_flag("--measure", flags->measure,
                    "measure this device's rates, to compute the largest possible number of tokens per second");
  add_number(*command, "--product-tflops", flags->product_tflops, {.least = 0, .most = 1e9},
             "a device's speed for large matrix products, in 10^12 FLOP/s; 0: not known");
  add_number(*command, "--read-gb-per-s", flags->read_gb_per_s, {.least = 0, .most = 1e9},
             "a device's speed for reading memory, in 10^9 bytes/s; 0: not known");
  command->add_flag("--json", flags->json, "print JSON");
  command->add_option("--dtype", flags->dtype,
                      "type of weights and activations: f32 or bf16 (default: the run file's, or bf16)");
  add_device_options(*command, flags->device);
  add_layout_options(*command, flags->layouts);
  command->callback([flags, rows] {
    flags->rows_given = rows->count() > 0;
    cost(*flags);
  });
}

}  // namespace moe
