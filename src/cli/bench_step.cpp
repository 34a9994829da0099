#include "cli/bench_step.h"

#include <algorithm>

#include "backend/cuda/cuda_backend.h"
#include "base/log.h"
#include "base/output.h"
#include "base/random.h"
#include "cli/bench_machine.h"
#include "eval/routing_counts.h"
#include "formats/json.h"
#include "model/cost.h"
#include "model/methods.h"
#include "model/validate.h"
#include "ops/record.h"
#include "train/fit.h"
#include "train/settle.h"

namespace moe {
namespace {

// Rows with one document each, random ids, and a target for every token.
Batch random_batch(const StepFlags& flags, uint64_t number) {
  const Random random(1, number);
  const auto vocabulary = static_cast<uint64_t>(flags.model.vocab_size);
  Batch batch;
  batch.rows = flags.rows;
  batch.sequence_length = flags.length;
  const int64_t tokens = flags.rows * flags.length;
  for (auto* values : {&batch.tokens, &batch.targets, &batch.positions, &batch.segment_start, &batch.segment_id}) {
    values->resize(static_cast<size_t>(tokens));
  }
  batch.num_tokens = batch.num_targets = tokens;
  batch.segment_tokens.assign(static_cast<size_t>(flags.rows), static_cast<int32_t>(flags.length));
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    const auto row = static_cast<int64_t>(i) / flags.length;
    const auto next = static_cast<uint64_t>(row * (flags.length + 1) + static_cast<int64_t>(i) % flags.length);
    batch.tokens[i] = static_cast<int32_t>(random.below(next, vocabulary));
    batch.targets[i] = static_cast<int32_t>(random.below(next + 1, vocabulary));
    batch.positions[i] = static_cast<int32_t>(static_cast<int64_t>(i) % flags.length);
    batch.segment_start[i] = static_cast<int32_t>(row * flags.length);
    batch.segment_id[i] = static_cast<int32_t>(row);
  }
  return batch;
}

struct StepTime {
  double step = 0, gradients = 0, update = 0, cpu = 0;
};

struct Measured {
  MemoryPlan plan;
  std::vector<StepTime> times;
  StepReport report;
  std::map<std::string, RecordingBackend::Record> ops;
  double product = 0;  // FLOP/s
  int64_t peak_rss = 0;
  int64_t allocated = 0;  // on the device
};

double median(const std::vector<StepTime>& times, double StepTime::*value) {
  std::vector<double> values;
  for (const StepTime& time : times) values.push_back(time.*value);
  return moe::median(std::move(values));
}

StepConfig step_config(const StepFlags& flags) {
  StepConfig step;
  step.balance = flags.model.n_routed_experts > 0 ? flags.balance : BalanceConfig{};
  if (flags.model.n_routed_experts > 0 && flags.model.routing == RoutingMethod::stable) step.second_stage = 1;
  step.dtype = parse_dtype_option(flags.dtype);
  step.recompute = flags.recompute;
  step.sequence_length = flags.length;
  step.microbatch_tokens = flags.rows * flags.length;
  step.microbatches = flags.microbatches;
  return step;
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
  run.step.head_logits = head_logits(compute.kind, run.model.vocab_size);
  if (flags.recompute) run.step.recompute = true, run.step.choose_recompute = false;
  const Microbatch chosen = choose_microbatch(run, facts_of(run, nullptr, nullptr, nullptr), place_of(*compute.device));
  flags.rows = chosen.rows;
  flags.recompute = chosen.recompute;
  log_info("{} rows{}, as `moe train` would take here; --rows says otherwise", chosen.rows,
           chosen.recompute ? ", with recompute" : "");
}

const FitKeys kFlagKeys{
    .rows = "--rows {}", .recompute = "--recompute", .evaluated = "", .length = "--length {}", .layers = "--layers {}"};

StepTime one_step(TrainingStep& run, Device& device, const std::vector<Batch>& batches, int64_t number,
                  StepReport& report) {
  const double start = wall_seconds();
  const double cpu = cpu_seconds();
  run.accumulate([&](int64_t index) { return batches[static_cast<size_t>(index)]; }, number);
  device.synchronize();
  const double middle = wall_seconds();
  report = run.update(number, 1e-4);
  const double end = wall_seconds();
  return {.step = end - start, .gradients = middle - start, .update = end - middle, .cpu = cpu_seconds() - cpu};
}

Measured measure(const StepFlags& flags, const StepConfig& step, Compute& compute) {
  Measured measured;
  const Place place = place_of(*compute.device);
  const RunConfig run = as_run(flags, step);
  const RunMemory memory = plan_run(run, {}, place);
  refuse_if_too_large(run, {}, memory, place, kFlagKeys);
  measured.plan = memory.step;
  const auto product = [&] {
    if (flags.product == 0) return 0.0;
    return measure_product(*compute.backend, *compute.device, step.dtype, flags.product, 2);
  };
  measured.product = product();
  {
    RecordingBackend recorder(*compute.backend, *compute.device);
    recorder.record(false);
    TrainingStep training(flags.model, step, measured.plan, *compute.device, recorder);
    training.initialize(1, 0.006, {}, &compute.pool);
    // After the timed steps, one more whose operations are timed one by one.
    const int all_steps = flags.warm_up + flags.steps + 1;
    for (int i = 0; i < all_steps; ++i) {
      std::vector<Batch> batches;
      for (int64_t b = 0; b < flags.microbatches; ++b) {
        batches.push_back(random_batch(flags, static_cast<uint64_t>(i * flags.microbatches + b)));
      }
      show_status(fmt::format("step {} of {}", i + 1, all_steps));
      const bool last = i == all_steps - 1;
      recorder.record(last);
      const StepTime time = one_step(training, *compute.device, batches, i + 1, measured.report);
      if (i >= flags.warm_up && !last) measured.times.push_back(time);
    }
    clear_status();
    measured.ops = recorder.records();
    measured.allocated = compute.device->allocated_bytes();
  }
  measured.peak_rss = peak_rss_bytes();
  measured.product = std::max(measured.product, product());
  return measured;
}

/// Choices of the busiest expert of a layer divided by the mean, for the layer with the largest value; 0 without
/// experts.
double worst_load(const ModelConfig& model, const StepReport& report) {
  const auto experts = static_cast<size_t>(model.n_routed_experts);
  double worst = 0;
  for (size_t begin = 0; experts > 0 && begin + experts <= report.counts.size(); begin += experts) {
    worst = std::max(worst, load_statistics(std::span(report.counts).subspan(begin, experts)).max_over_mean);
  }
  return worst;
}

double gib(int64_t bytes) { return static_cast<double>(bytes) / 1073741824.0; }

Json step_json(const StepFlags& flags, const Measured& measured, int threads) {
  const ModelConfig& m = flags.model;
  const MemoryPlan& plan = measured.plan;
  const double step = median(measured.times, &StepTime::step);
  const auto tokens = static_cast<double>(flags.rows * flags.length * flags.microbatches);
  const auto sequences = static_cast<double>(flags.rows * flags.microbatches);
  const double rate = sequences * exact_flops(m, flags.length) / step;
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
            {"recompute", flags.recompute}}},
          {"dtype", flags.dtype},
          {"threads", threads},
          {"steps", flags.steps},
          {"parameters", ParameterCounts(m).stored()},
          {"tokens_per_s", tokens / step},
          {"step_s", step},
          {"forward_backward_s", median(measured.times, &StepTime::gradients)},
          {"update_s", median(measured.times, &StepTime::update)},
          {"cpu_s", median(measured.times, &StepTime::cpu)},
          {"peak_rss_gib", gib(measured.peak_rss)},
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
          {"product_gflops", 1e-9 * measured.product},
          {"share_of_product", measured.product > 0 ? Json(rate / measured.product) : Json()},
          {"paper_share_of_product", measured.product > 0 ? Json(paper_rate / measured.product) : Json()},
          {"load_max_over_mean", worst_load(m, measured.report)},
          {"loss", measured.report.loss},
          {"grad_norm", measured.report.gradient_norm},
          {"slow_paths", cuda_slow_paths()},
          {"ops", ops}};
}

void print_step(const Json& j) {
  const auto number = [&](const char* key) { return j.at(key).get<double>(); };
  print_output(
      "{:.1f} tokens/s ({:.3f} s a step: forward and backward {:.3f}, clip and AdamW {:.3f}; cpu seconds {:.3f}, "
      "{} threads)\n",
      number("tokens_per_s"), number("step_s"), number("forward_backward_s"), number("update_s"), number("cpu_s"),
      j.at("threads").get<int>());
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
  if (flags.rows == 0) choose_rows(flags, compute);
  StepConfig step = step_config(flags);
  validate(step.balance, flags.model);
  if (step.second_stage > 0) log_info("timing StableMoE's second stage (90% of a run's steps)");
  step.head_logits = head_logits(compute.kind, flags.model.vocab_size);
  const Json json = step_json(flags, measure(flags, step, compute), compute.pool.size());
  if (flags.json) {
    print_output("{}\n", json_text(json, 2));
  } else {
    print_step(json);
  }
}

}  // namespace moe
