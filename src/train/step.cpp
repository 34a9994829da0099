#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "nn/routers/hash_table.h"
#include "ops/transfer.h"
#include "tensor/unlimited.h"
#include "train/freeze.h"

namespace moe {
namespace {

size_t bytes_or_unlimited(int64_t planned) { return planned > 0 ? static_cast<size_t>(planned) : kUnlimitedBytes; }

void upload_scalar(Device& device, const View& view, double value) {
  if (view.dtype == DType::f64) return device.upload(view.as<double>(), &value, sizeof(value));
  const auto single = static_cast<float>(value);
  device.upload(view.as<float>(), &single, sizeof(single));
}

void upload_floats(Device& device, const View& view, const std::vector<float>& values) {
  std::vector<char> stored(view.bytes());
  storage(view.dtype).from_floats(values.data(), stored.data(), view.elements());
  device.upload(view.data, stored.data(), stored.size());
}

}  // namespace

TrainingStep::TrainingStep(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan, Device& device,
                           Backend& backend)
    : config_(config), step_(step), device_(device), backend_(backend), table_(training_table(config, step.freeze)) {
  const DType stat = stat_dtype(step_.dtype);
  parameter_arena_ = allocate("parameters", plan.parameters);
  allocate_gradients_and_saved(plan);
  optimizer_arena_ = allocate("optimizer state", plan.optimizer);
  batch_arena_ = allocate("batch", plan.batch);
  scratch_ = allocate("scratch", plan.scratch);
  for (const Parameter& parameter : table_) {
    parameters_.push_back(parameter_arena_->push(parameter.name, parameter.storage(step_.dtype), parameter.shape));
  }
  const auto by_kind = [&](const Parameter& parameter) -> Arena& {
    return parameter.gradient_is_added ? *added_gradient_arena_ : *gradient_arena_;
  };
  const auto in_optimizer = [&](const Parameter&) -> Arena& { return *optimizer_arena_; };
  gradients_ = push_like_parameters("gradient of ", stat, by_kind);
  masters_ = needs_master(step_.dtype) ? push_like_parameters("master of ", stat, in_optimizer) : parameters_;
  exp_avg_ = push_like_parameters("exp_avg of ", stat, in_optimizer);
  exp_avg_sq_ = push_like_parameters("exp_avg_sq of ", stat, in_optimizer);
  model_ = std::make_unique<Model>(config_, step_.balance, bind_weights(config_, parameters_));
  gradient_weights_ = bind_weights(config_, gradients_);
  for (size_t i = 0; i < table_.size(); ++i) {
    if (!table_[i].trained()) masters_[i] = parameters_[i];
  }
  make_batch_buffers();
}

RouteMode StepConfig::mode(int64_t step, int64_t first_token) const {
  return {.training = true,
          .learning = second_stage > 0 && step < second_stage,
          .seed = seed,
          .step = step,
          .first_token = first_token};
}

double StepReport::router_loss(RouterLoss kind) const {
  double sum = 0;
  for (size_t i = static_cast<size_t>(kind); i < losses.size(); i += kRouterLosses) sum += losses[i];
  return sum;
}

TrainingStep::~TrainingStep() {
  for (void* allocation : allocations_) device_.release(allocation);
}

std::unique_ptr<Arena> TrainingStep::allocate(const char* name, int64_t planned) {
  const size_t bytes = bytes_or_unlimited(planned);
  allocations_.push_back(device_.allocate(bytes, name));
  return std::make_unique<Arena>(name, allocations_.back(), bytes);
}

// One block: gradients that are added to, then saved activations, which overlap the memory of the other gradients.
void TrainingStep::allocate_gradients_and_saved(const MemoryPlan& plan) {
  if (plan.total() == 0) {  // to be found out
    added_gradient_arena_ = allocate("gradients", 0);
    gradient_arena_ = allocate("gradients", 0);
    saved_ = allocate("saved activations", 0);
    return;
  }
  const auto bytes = [](int64_t count) { return static_cast<size_t>(count); };
  const size_t added = bytes(plan.added_gradients), alone = bytes(plan.saved_alone());
  allocations_.push_back(device_.allocate(bytes(plan.gradients) + alone, "gradients and saved activations"));
  char* const block = static_cast<char*>(allocations_.back());
  added_gradient_arena_ = std::make_unique<Arena>("gradients", block, added);
  saved_ = std::make_unique<Arena>("saved activations", block + added, bytes(plan.saved));
  gradient_arena_ = std::make_unique<Arena>("gradients", block + added + alone, bytes(plan.gradients) - added);
}

template <class ArenaOf>
std::vector<View> TrainingStep::push_like_parameters(const char* what, DType dtype, const ArenaOf& arena_of) {
  std::vector<View> views;
  for (const Parameter& parameter : table_) {
    const bool trained = parameter.trained();
    views.push_back(trained ? arena_of(parameter).push(what + parameter.name, dtype, parameter.shape) : View{});
  }
  return views;
}

void TrainingStep::make_batch_buffers() {
  Arena& arena = *batch_arena_;
  const DType stat = stat_dtype(step_.dtype);
  const int64_t tokens = step_.microbatch_tokens;
  const int64_t layers = config_.moe_layers();
  const auto integers = [&](const char* name, Shape shape) { return arena.push(name, DType::i32, shape); };
  tokens_ = std::make_unique<TokenBuffers>(arena, stat, tokens, config_.head_dim);
  group_ = integers("group", {tokens});
  group_tokens_ = integers("group_tokens", {tokens});
  // The results of a step are adjacent: read_report() copies from the first to the last.
  row_loss_ = arena.push("row_loss", stat, {step_.microbatches, tokens});
  counts_ = integers("counts", {layers, 1, config_.n_routed_experts});
  dropped_ = integers("dropped", {layers});
  losses_ = arena.push("router losses", stat, {layers, kRouterLosses});
  norm_ = arena.push("norm", stat, {1});
  if (step_.balance.counts_first()) {
    const Shape by_expert{layers, 1, config_.n_routed_experts};
    sums_ = {.counts = integers("balance.counts", by_expert),
             .reach = integers("balance.reach", {layers, 1, config_.n_group}),
             .importance = arena.push("balance.importance", stat, by_expert),
             .load = arena.push("balance.load", stat, by_expert)};
    if (step_.balance.alpha_communication == 0) sums_.reach = View{};
    if (step_.balance.importance == 0) sums_.importance = View{};
    if (step_.balance.load == 0) sums_.load = View{};
  }
  gradient_scale_ = arena.push("gradient_scale", stat, {1});
  inv_tokens_ = arena.push("inv_tokens", stat, {1});
  sum_squares_ = arena.push("sum_squares", DType::f64, {1});
  clip_scale_ = arena.push("clip_scale", stat, {1});
}

void TrainingStep::initialize(uint64_t seed, double standard_deviation, std::span<const int64_t> token_counts,
                              ThreadPool* pool) {
  constexpr int64_t kBlock = int64_t{1} << 22, kPiece = int64_t{1} << 14;
  ThreadPool alone(1);
  ThreadPool& workers = pool != nullptr ? *pool : alone;  // billions of numbers; each depends only on its place
  std::vector<float> values;
  for (size_t i = 0; i < table_.size(); ++i) {
    if (table_[i].is_table()) continue;
    const int64_t elements = table_[i].shape.elements();
    for (int64_t begin = 0; begin < elements; begin += kBlock) {
      const int64_t count = std::min(kBlock, elements - begin);
      values.resize(static_cast<size_t>(count));
      workers.parallel_for((count + kPiece - 1) / kPiece, [&](int64_t piece, int) {
        const int64_t first = piece * kPiece;
        initial_values(table_[i], seed, standard_deviation, begin + first, std::min(kPiece, count - first),
                       values.data() + first);
      });
      upload_floats(device_, masters_[i].reshaped({elements}).rows(begin, count), values);
    }
    if (!table_[i].trained()) continue;
    backend_.run(Fill{.x = exp_avg_[i], .value = 0});
    backend_.run(Fill{.x = exp_avg_sq_[i], .value = 0});
  }
  initialize_tables(seed, token_counts);
  parameters_from_masters();
}

void TrainingStep::initialize_tables(uint64_t seed, std::span<const int64_t> token_counts) {
  for (size_t i = 0; i < table_.size(); ++i) {
    if (!table_[i].is_table()) continue;
    upload_vector(device_, parameters_[i],
                  token_counts.empty()
                      ? random_hash_table(config_.vocab_size, config_.n_routed_experts, seed, table_[i].layer)
                      : balanced_hash_table(token_counts, config_.n_routed_experts));
  }
}

void TrainingStep::parameters_from_masters() {
  if (!needs_master(step_.dtype)) return;
  for (size_t i = 0; i < table_.size(); ++i) {
    if (table_[i].trained()) backend_.run(Cast{.x = masters_[i], .y = parameters_[i]});
  }
}

Pass TrainingStep::make_pass(bool accumulate_gradients) {
  return {.backend = backend_,
          .saved = *saved_,
          .scratch = *scratch_,
          .dtype = step_.dtype,
          .accumulate_gradients = accumulate_gradients,
          .logits_per_chunk = step_.logits_per_chunk};
}

void TrainingStep::begin(int64_t targets, int64_t tokens) {
  step_targets_ = targets;
  upload_scalar(device_, gradient_scale_, targets > 0 ? 1.0 / static_cast<double>(targets) : 0.0);
  upload_scalar(device_, inv_tokens_, tokens > 0 ? 1.0 / static_cast<double>(tokens) : 0.0);
  for (const View& view :
       {row_loss_, counts_, dropped_, losses_, sums_.counts, sums_.reach, sums_.importance, sums_.load}) {
    if (view) backend_.run(Fill{.x = view, .value = 0});
  }
  for (size_t i = 0; i < table_.size(); ++i) {
    if (table_[i].trained() && table_[i].gradient_is_added) {
      backend_.run(Fill{.x = gradients_[i], .value = 0});
    }
  }
}

bool TrainingStep::counts_first(const RouteMode& mode) const {
  const bool second_stage = config_.routing_row().staged && !mode.learning;
  return step_.balance.counts_first() && !second_stage;
}

TokenViews TrainingStep::upload(const Batch& batch) {
  return tokens_->upload(batch, step_.sequence_length, config_.rope_theta, device_, backend_);
}

void TrainingStep::count_microbatch(const Batch& batch, const RouteMode& mode) {
  const TokenViews tokens = upload(batch);
  const Arena::Frame frame(*scratch_);
  Pass pass = make_pass(false);
  model_->forward(pass, tokens, {.sums = sums_, .collect = true}, nullptr, mode);
}

void TrainingStep::train_microbatch(const Batch& batch, int64_t index, const RouteMode& mode) {
  const TokenViews tokens = upload(batch);
  BalanceViews balance{.group = tokens.valid, .group_tokens = group_tokens_.rows(0, 1), .inv_tokens = inv_tokens_};
  const StepStats stats{
      .group = tokens.valid, .counts = counts_, .dropped = dropped_, .losses = losses_, .sums = sums_};
  switch (step_.balance.scope) {
    case BalanceScope::sequence:
      balance.group = group_.rows(0, tokens.count());
      // A plan's placeholder has as many groups as there could be.
      balance.group_tokens = group_tokens_.rows(
          0, batch.segment_tokens.empty() ? tokens.count() : static_cast<int64_t>(batch.segment_tokens.size()));
      upload_vector(device_, group_, batch.segment_id);
      upload_vector(device_, group_tokens_, batch.segment_tokens);
      break;
    case BalanceScope::microbatch:
      upload_vector(device_, group_tokens_, std::vector<int32_t>{static_cast<int32_t>(batch.num_tokens)});
      break;
    case BalanceScope::step:
      break;  // group_tokens is the step's
  }
  Pass pass = make_pass(index > 0);
  model_->train(pass, tokens, balance, stats, mode, gradient_scale_, step_.recompute, gradient_weights_,
                row_loss_.at(index).rows(0, tokens.count()));
}

void TrainingStep::accumulate(const std::function<Batch(int64_t)>& batch, int64_t step) {
  int64_t targets = 0;
  int64_t tokens = 0;
  std::vector<Batch> batches;  // the batches of the whole step, made before its token counts are known
  for (int64_t i = 0; i < step_.microbatches; ++i) {
    batches.push_back(batch(i));
    targets += batches.back().num_targets;
    tokens += batches.back().num_tokens;
  }
  begin(targets, tokens);
  if (counts_first(step_.mode(step, 0))) {
    int64_t first = 0;
    for (const Batch& micro : batches) {
      count_microbatch(micro, step_.mode(step, first));
      first += static_cast<int64_t>(micro.tokens.size());
    }
    upload_vector(device_, group_tokens_, std::vector<int32_t>{static_cast<int32_t>(tokens)});
  }
  int64_t first = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    train_microbatch(batches[i], static_cast<int64_t>(i), step_.mode(step, first));
    first += static_cast<int64_t>(batches[i].tokens.size());
  }
}

StepReport TrainingStep::update(int64_t step, double learning_rate) {
  const AdamWConfig& optimizer = step_.optimizer;
  backend_.run(Fill{.x = sum_squares_, .value = 0});
  for (const View& gradient : gradients_) {
    if (gradient) backend_.run(SumSquares{.x = gradient, .sum = sum_squares_});
  }
  backend_.run(ClipScale{.sum_squares = sum_squares_,
                         .max_norm = static_cast<float>(optimizer.clip),
                         .norm = norm_,
                         .scale = clip_scale_});
  const bool light_is_done = step_.second_stage > 0 && step >= step_.second_stage;
  for (size_t i = 0; i < table_.size(); ++i) {
    if (!table_[i].trained() || (table_[i].kind == ParameterKind::light_router && light_is_done)) continue;
    backend_.run(AdamW{.param = parameters_[i],
                       .master = needs_master(step_.dtype) ? masters_[i] : View{},
                       .gradient = gradients_[i],
                       .exp_avg = exp_avg_[i],
                       .exp_avg_sq = exp_avg_sq_[i],
                       .gradient_scale = clip_scale_,
                       .learning_rate = static_cast<float>(learning_rate),
                       .beta1 = static_cast<float>(optimizer.beta1),
                       .beta2 = static_cast<float>(optimizer.beta2),
                       .eps = static_cast<float>(optimizer.eps),
                       .weight_decay = static_cast<float>(table_[i].decays ? optimizer.weight_decay : 0.0),
                       .step = step});
  }
  StepReport report = read_report();
  if (std::isfinite(report.gradient_norm)) update_biases();
  return report;
}

StepReport TrainingStep::read_report() {
  // One copy for everything, so that the host waits for the device once.
  const auto* const begin = static_cast<const char*>(row_loss_.data);
  const auto* const end = static_cast<const char*>(norm_.data) + norm_.bytes();
  std::vector<char> block(static_cast<size_t>(end - begin));
  device_.download(block.data(), begin, block.size());
  const auto at = [&](const View& view) { return block.data() + (static_cast<const char*>(view.data) - begin); };
  const auto doubles = [&](const View& view) {
    std::vector<double> values(static_cast<size_t>(view.elements()));
    if (values.empty()) return values;
    if (view.dtype == DType::f64) {
      std::memcpy(values.data(), at(view), view.bytes());
    } else {
      MOE_CHECK(view.dtype == DType::f32);
      std::vector<float> single(values.size());
      std::memcpy(single.data(), at(view), view.bytes());
      values.assign(single.begin(), single.end());
    }
    return values;
  };
  const auto integers = [&](const View& view) {
    std::vector<int32_t> values(static_cast<size_t>(view.elements()));
    if (!values.empty()) std::memcpy(values.data(), at(view), view.bytes());
    return values;
  };
  StepReport report;
  const std::vector<double> row_loss = doubles(row_loss_);
  report.loss =
      std::accumulate(row_loss.begin(), row_loss.end(), 0.0) / static_cast<double>(std::max<int64_t>(1, step_targets_));
  report.losses = doubles(losses_);
  report.gradient_norm = doubles(norm_)[0];
  report.counts = integers(counts_);
  report.dropped = integers(dropped_);
  return report;
}

TrainingStep::NotFinite TrainingStep::find_not_finite() {
  const auto is_finite = [&](const View& view) {
    backend_.run(Fill{.x = sum_squares_, .value = 0});
    backend_.run(SumSquares{.x = view, .sum = sum_squares_});
    return std::isfinite(download_doubles(device_, sum_squares_)[0]);
  };
  NotFinite found;
  for (size_t i = 0; i < table_.size(); ++i) {
    if (!table_[i].trained()) continue;
    if (!is_finite(gradients_[i])) found.gradients.push_back(i);
    if (!is_finite(masters_[i])) found.weights.push_back(i);
  }
  return found;
}

// Loss-free balancing, by the whole step's choices.
void TrainingStep::update_biases() {
  if (step_.balance.bias_rate == 0) return;
  int64_t moe_index = 0;
  for (size_t i = 0; i < table_.size(); ++i) {
    if (table_[i].kind != ParameterKind::router_state || table_[i].is_table()) continue;
    const View counts = counts_.at(moe_index++).at(0);
    if (table_[i].frozen) continue;
    backend_.run(BiasUpdate{.counts = counts, .rate = step_.balance.bias_rate, .bias = parameters_[i]});
  }
}

}  // namespace moe
