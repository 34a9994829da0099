#include "cli/bench_step.h"

#include <algorithm>

#include "backend/cuda/cuda_backend.h"
#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/units.h"
#include "base/words.h"
#include "cli/memory_option.h"
#include "formats/json.h"
#include "measure/step.h"
#include "model/balance_defaults.h"
#include "model/cost.h"
#include "model/methods.h"
#include "model/validate.h"
#include "ops/type_set.h"
#include "train/fit.h"
#include "train/settle.h"
#include "train/training_log.h"

namespace moe {
namespace {

Rebuild rebuild_of(const StepFlags& flags) {
  for (const Rebuild rebuild : {Rebuild::norms, Rebuild::all}) {
    if (flags.rebuild == name(rebuild)) return rebuild;
  }
  return Rebuild::nothing;
}

StepConfig step_config(const StepFlags& flags) {
  StepConfig step;
  step.balance = flags.model.n_routed_experts > 0 ? flags.balance : BalanceConfig{};
  if (flags.model.routes_with(&RoutingRow::staged)) step.second_stage = 1;
  step.dtype = parse_dtype_option(flags.dtype);
  step.recompute = flags.recompute;
  step.rebuild = rebuild_of(flags);
  step.sequence_length = flags.length;
  step.microbatch_tokens = flags.rows * flags.length;
  step.microbatches = flags.microbatches;
  return step;
}

DType lora_base(const std::string& word, DType dtype) {
  for (const StorageType& type : kStorageTypes) {
    if (word == type.name && (named_block_types().has(type.dtype) || type.dtype == dtype)) return type.dtype;
  }
  std::vector<std::string> expected{name(dtype)};
  for (const std::string& block : named_block_types().names()) expected.push_back(block);
  fail_usage("--lora-base {}: expected {}", word, alternatives(expected));
}

/// Adapters of every linear map but the head, as `moe train` takes them by default.
void add_adapters(StepFlags& flags, StepConfig& step) {
  step.parameters = TrainedPart::lora;
  step.lora.rank = step.lora.rank_experts = flags.lora;
  step.lora.targets = present_targets(flags.model);
  std::erase(step.lora.targets, "head");
  step.lora.base = step.dtype;
  if (!flags.lora_base.empty()) step.lora.base = lora_base(flags.lora_base, step.dtype);
  flags.model.adapters = adapters_of(flags.model, step.lora);
}

/// The settings of a run whose steps are those that are timed.
RunConfig as_run(const StepFlags& flags, const StepConfig& step) {
  RunConfig run;
  run.model = flags.model;
  run.step = step;
  run.data.sequence_length = flags.length;
  run.data.rows_per_step = flags.rows * flags.microbatches;
  set_microbatch(run, flags.rows, flags.recompute);
  return run;
}

/// Rows and recompute as `moe train` takes them for the run file, here.
void choose_rows(StepFlags& flags, const Compute& compute) {
  RunConfig run = *flags.run_file;
  run.model = flags.model;
  run.data.sequence_length = flags.length;
  run.step.dtype = parse_dtype_option(flags.dtype);
  run.step.rebuild = rebuild_of(flags);
  run.step.logits_per_chunk = logits_per_chunk(compute.kind, run.model.vocab_size);
  if (flags.recompute) run.step.recompute = true, run.step.choose_recompute = false;
  const Microbatch chosen = choose_microbatch(run, facts_of(run, nullptr, nullptr, nullptr),
                                              limited_place(*compute.device, flags.memory_limit));
  flags.rows = chosen.rows;
  flags.recompute = chosen.recompute;
  log_info("{}{}, as `moe train` would take here; --rows says otherwise", counted(chosen.rows, "row"),
           chosen.recompute ? ", with recompute" : "");
}

const FitKeys kFlagKeys{.rows = "--rows {}",
                        .recompute = "--recompute",
                        .evaluated = "",
                        .length = "--length {}",
                        .layers = "--layers {}",
                        .step_rows = "--microbatches {}"};

/// The memory of the steps. Refuses what does not fit.
MemoryPlan plan_steps(const StepFlags& flags, const StepConfig& step, const Device& device) {
  const Place place = limited_place(device, flags.memory_limit);
  const RunConfig run = as_run(flags, step);
  const RunMemory memory = plan_run(run, {}, place);
  refuse_if_too_large(run, {}, memory, place, kFlagKeys);
  return memory.step;
}

Json step_json(const StepFlags& flags, const MemoryPlan& plan, const StepTimes& measured, int threads) {
  const ModelConfig& m = flags.model;
  const double step = measured.median(&StepTime::step);
  const auto tokens = static_cast<double>(flags.rows * flags.length * flags.microbatches);
  const auto sequences = static_cast<double>(flags.rows * flags.microbatches);
  const double in_step = flags.lora > 0 ? static_cast<double>(plan.microbatch_flops * flags.microbatches)
                                        : sequences * exact_flops(m, flags.length);
  const double rate = in_step / step;
  const double paper_rate = sequences * paper_flops(m, flags.length) / step;
  Json ops = Json::object();
  for (const auto& [name, op] : measured.ops) {
    ops[name] = {{"ms", 1e3 * op.seconds},
                 {"calls", op.calls},
                 {"gflops", 1e-9 * static_cast<double>(op.flops) / op.seconds},
                 {"gb_per_s", 1e-9 * static_cast<double>(op.bytes) / op.seconds}};
  }
  return {{"shape",
           {{"hidden", m.hidden_size},
            {"layers", m.num_hidden_layers},
            {"heads", m.num_attention_heads},
            {"kv_heads", m.num_key_value_heads},
            {"shared", m.n_shared_experts},
            {"experts", m.n_routed_experts},
            {"top_k", m.num_experts_per_tok},
            {"width", m.moe_intermediate_size},
            {"vocabulary", m.vocab_size},
            {"rows", flags.rows},
            {"length", flags.length},
            {"microbatches", flags.microbatches},
            {"recompute", flags.recompute},
            {"rebuild", flags.rebuild},
            {"lora", flags.lora},
            {"lora_base", flags.lora_base}}},
          {"dtype", flags.dtype},
          {"kernels", flags.kernels},
          {"threads", threads},
          {"steps", flags.steps},
          {"parameters", ParameterCounts(m).stored()},
          {"tokens_per_s", tokens / step},
          {"step_s", step},
          {"forward_backward_s", measured.median(&StepTime::gradients)},
          {"update_s", measured.median(&StepTime::update)},
          {"cpu_s", measured.median(&StepTime::cpu)},
          {"peak_rss_gib", gib(measured.peak_resident)},
          {"allocated_gib", gib(measured.allocated)},
          {"plan_gib",
           {{"parameters", gib(plan.parameters)},
            {"gradients", gib(plan.gradients)},
            {"optimizer", gib(plan.optimizer)},
            {"batch", gib(plan.batch)},
            {"saved", gib(plan.saved_alone())},
            {"saved_in_gradients", gib(plan.saved_in_gradients)},
            {"scratch", gib(plan.scratch)},
            {"total", gib(plan.total())}}},
          {"gflops", 1e-9 * rate},
          {"paper_gflops", 1e-9 * paper_rate},
          {"product_gflops", 1e-9 * measured.product_rate},
          {"share_of_product", measured.product_rate > 0 ? Json(rate / measured.product_rate) : Json()},
          {"paper_share_of_product", measured.product_rate > 0 ? Json(paper_rate / measured.product_rate) : Json()},
          {"load_max_over_mean", worst_load(measured.report, m)},
          {"loss", measured.report.loss},
          {"grad_norm", measured.report.gradient_norm},
          {"slow_paths", cuda_slow_paths()},
          {"ops", ops}};
}

void print_step(const Json& j) {
  const auto number = [&](const char* key) { return j.at(key).get<double>(); };
  print_output(
      "{:.1f} tokens/s ({:.3f} s a step: forward and backward {:.3f}, clip and AdamW {:.3f}; cpu seconds {:.3f}, "
      "{})\n",
      number("tokens_per_s"), number("step_s"), number("forward_backward_s"), number("update_s"), number("cpu_s"),
      counted(j.at("threads").get<int>(), "thread"));
  print_output("{:.1f} GFLOP/s", number("gflops"));
  if (!j.at("share_of_product").is_null()) {
    print_output(", {:.1f}% of a large {} product's {:.1f} ({:.1f}% by the paper's convention)",
                 100 * number("share_of_product"), j.at("dtype").get<std::string>(), number("product_gflops"),
                 100 * number("paper_share_of_product"));
  }
  print_output("\n{:.2f} GiB allocated on the device ({:.2f} GiB planned), {:.2f} GiB of host memory at the peak\n",
               number("allocated_gib"), j.at("plan_gib").at("total").get<double>(), number("peak_rss_gib"));
  if (number("load_max_over_mean") > 0) {
    print_output("the busiest expert has {:.2f} times the mean of its layer\n", number("load_max_over_mean"));
  }
  print_output("\n");
  std::vector<std::pair<double, std::string>> rows;
  for (const auto& [name, op] : j.at("ops").items()) rows.emplace_back(op.at("ms").get<double>(), name);
  std::sort(rows.rbegin(), rows.rend());
  print_output("{:<22} {:>10} {:>7} {:>7} {:>9} {:>8}\n", "operation", "ms/step", "share", "calls", "GFLOP/s", "GB/s");
  for (const auto& [ms, name] : rows) {
    const Json& op = j.at("ops").at(name);
    print_output("{:<22} {:>10.2f} {:>6.1f}% {:>7} {:>9.1f} {:>8.1f}\n", name, ms, 0.1 * ms / number("step_s"),
                 op.at("calls").get<int64_t>(), op.at("gflops").get<double>(), op.at("gb_per_s").get<double>());
  }
  for (const Json& note : j.at("slow_paths")) fmt::print("slow path: {}\n", note.get<std::string>());
}

}  // namespace

void bench_step(StepFlags flags) {
  complete_sizes(flags);
  flags.model.max_position_embeddings = flags.length;
  validate(flags.model);
  Compute compute = make_compute(flags.device);
  force_cuda_path(flags.kernels);
  if (flags.rows == 0) choose_rows(flags, compute);
  StepConfig step = step_config(flags);
  validate(step.balance, flags.model);
  if (flags.lora == 0 && !flags.lora_base.empty()) {
    fail_usage("--lora-base {}: it is the type of the weights beside adapters; give --lora too", flags.lora_base);
  }
  if (flags.lora > 0) add_adapters(flags, step);
  if (step.second_stage > 0) log_info("timing StableMoE's second stage (90% of a run's steps)");
  step.logits_per_chunk = logits_per_chunk(compute.kind, flags.model.vocab_size);
  const MemoryPlan plan = plan_steps(flags, step, *compute.device);
  const StepTimes times = measure_steps(
      {.model = flags.model, .step = step, .steps = flags.steps, .warm_up = flags.warm_up, .product = flags.product},
      plan, *compute.device, *compute.backend, compute.pool);
  const Json json = step_json(flags, plan, times, compute.pool.size());
  if (flags.json) {
    print_output("{}\n", json_text(json, 2));
  } else {
    print_step(json);
  }
}

}  // namespace moe
