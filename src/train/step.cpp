#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "model/layout.h"
#include "nn/routers/hash_table.h"
#include "ops/transfer.h"
#include "tensor/unlimited.h"
#include "train/freeze.h"
#include "train/initialize.h"

namespace moe {
namespace {

void upload_scalar(Device& device, const View& view, double value) {
  if (view.dtype == DType::f64) return device.upload(view.as<double>(), &value, sizeof(value));
  const auto single = static_cast<float>(value);
  device.upload(view.as<float>(), &single, sizeof(single));
}

}  // namespace

std::vector<Parameter> training_table(const ModelConfig& config, const StepConfig& step) {
  return training_table(config, step.freeze, step.experts ? &*step.experts : nullptr);
}

std::vector<Parameter> held_table(const ModelConfig& config, const StepConfig& step) {
  std::vector<Parameter> table = training_table(config, step);
  divide_experts(table, step.layout().member(), step.expert_ranks);
  if (step.stages == 1) return table;
  keep_stage(table, config, step.layers(config));
  for (Parameter& parameter : table) {  // no gradient of a head comes before that of an embedding alone
    if (parameter.role == ParameterRole::embedding && step.layout().stage() == 0) parameter.gradient_is_added = true;
  }
  return table;
}

std::optional<TiedRanks> tied_ranks(const ModelConfig& config, StepConfig step) {
  if (step.stages == 1 || !config.tie_word_embeddings) return std::nullopt;
  const int last = step.ranks - step.row_ranks();
  step.rank = 0;
  const std::vector<Parameter> table = held_table(config, step);
  const std::vector<int> owners = owners_of(table, step.layout());
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i].role == ParameterRole::embedding && table[i].trained()) return TiedRanks{owners[i], last};
  }
  return std::nullopt;
}

LayerRange StepConfig::layers(const ModelConfig& config) const {
  return stage_layers(config.num_hidden_layers, stages)[static_cast<size_t>(layout().stage())];
}

const char* name(TrainedPart part) {
  switch (part) {
    case TrainedPart::all:
      return "all";
    case TrainedPart::lora:
      return "lora";
    case TrainedPart::experts:
      return "experts";
  }
  return "?";
}

TrainingStep::TrainingStep(const ModelConfig& config, const StepConfig& step, const std::optional<MemoryPlan>& plan,
                           Device& device, Backend& backend, Communicator& communicator)
    : config_(config),
      step_(step),
      device_(device),
      backend_(backend),
      communicator_(communicator),
      table_(held_table(config, step)),
      layout_(step.layout()),
      owners_(owners_of(table_, layout_)),
      owned_(owned_by(owners_, table_, layout_)),
      tied_(tied_ranks(config, step)),
      memory_(
          table_, step.dtype, [&](const Parameter& parameter) { return step.storage(parameter); }, owned_,
          step.waiting(), plan, device),
      optimizer_(step.optimizer, table_, owned_, memory_, step.dtype) {
  make_batch_buffers();
  model_ = std::make_unique<Model>(
      config_, step_.balance, bind_weights(config_, memory_.parameters(), step_.layers(config_)),
      step.expert_ranks > 1 ? ExpertRanks{&communicator, layout_.expert_group()} : ExpertRanks{}, stage());
  bind_gradients();
  if (step_.stages > 1) {
    communicator_.prepare({layout_.stage_group(), layout_.expert_group(), layout_.same_experts(), layout_.pipeline()});
  } else if (step_.ranks > 1) {
    show_to_ranks();
  }
}

ModelStage TrainingStep::stage() {
  if (step_.stages == 1) return {};
  return {.communicator = &communicator_, .group = layout_.pipeline(), .layers = step_.layers(config_)};
}

void TrainingStep::show_to_ranks() {
  std::vector<View> tensors;
  for (size_t i = 0; i < table_.size(); ++i) {
    if (!table_[i].trained() || layout_.holders(table_[i]).count == 1) continue;
    tensors.push_back(gradients()[i]);
    tensors.push_back(parameters()[i]);
  }
  communicator_.show(tensors);
}

void TrainingStep::bind_gradients() {
  gradient_weights_ = bind_weights(config_, memory_.gradients(), step_.layers(config_));
  for (const Parameter& parameter : table_) {
    if (parameter.experts.empty()) continue;
    MoeWeights& layer = gradient_weights_.layers[static_cast<size_t>(parameter.layer)].moe;
    Linear& map = parameter.role == ParameterRole::experts_down ? layer.down : layer.gate_up;
    (parameter.adapter == AdapterPart::none ? map.experts : map.adapter.experts) = &parameter.experts;
  }
}

DType StepConfig::storage(const Parameter& parameter) const {
  // Embedding and head keep the run's type: the gradient of the logits passes through the head's columns, whose number
  // is the vocabulary, and bitsandbytes leaves both alone, too.
  const bool of_base =
      parameter.frozen && parameter.adapter == AdapterPart::none && !parameter.is_by_token() && lora.base.has_value();
  return parameter.storage(of_base && parameters == TrainedPart::lora ? *lora.base : dtype);
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

void TrainingStep::initialize(uint64_t seed, double standard_deviation, std::span<const int64_t> token_counts,
                              ThreadPool* pool) {
  initialize_parameters(config_, table_, parameters(), masters(), seed, standard_deviation, token_counts, pool,
                        device_);
  parameters_from_masters();
  clear_optimizer();
}

void TrainingStep::initialize_adapters(uint64_t seed, ThreadPool* pool) {
  std::vector<Parameter> adapters;
  std::vector<View> values, updated;
  for (size_t i = 0; i < table_.size(); ++i) {
    if (table_[i].adapter == AdapterPart::none) continue;
    adapters.push_back(table_[i]);
    values.push_back(parameters()[i]);
    updated.push_back(masters()[i]);
  }
  initialize_parameters(config_, adapters, values, updated, seed, 0, {}, pool, device_);
}

void TrainingStep::parameters_from_masters() {
  if (!needs_master(step_.dtype)) return;
  for (size_t i = 0; i < table_.size(); ++i) {
    if (!table_[i].trained() || !owned_[i]) continue;
    for (const ExpertRun& run : table_[i].trained_runs()) {
      backend_.run(Cast{.x = masters()[i].rows(run.at, run.count), .y = parameters()[i].rows(run.first, run.count)});
    }
  }
}

Pass TrainingStep::make_pass(bool accumulate_gradients, bool last, const RouteMode& mode, Arena& saved) {
  return {.backend = backend_,
          .saved = saved,
          .scratch = memory_.scratch(),
          .dtype = step_.dtype,
          .accumulate_gradients = accumulate_gradients,
          .rebuild = step_.recompute ? Rebuild::nothing : step_.rebuild,  // recompute keeps none of it anyway
          // The squares of a sum over ranks are not known before the sum.
          .gradient_squares = last && step_.ranks == 1 ? optimizer_.gradient_squares() : View{},
          .logits_per_chunk = step_.logits_per_chunk,
          .adapter_dropout = {.probability = static_cast<float>(step_.lora.dropout),
                              .seed = mode.seed,
                              .step = mode.step,
                              .first_token = mode.first_token}};
}

void TrainingStep::begin(double weight, int64_t tokens) {
  step_weight_ = weight;
  upload_scalar(device_, gradient_scale_, weight > 0 ? 1.0 / weight : 0.0);
  upload_scalar(device_, inv_tokens_, tokens > 0 ? 1.0 / static_cast<double>(tokens) : 0.0);
  for (const View& view :
       {row_loss_, counts_, dropped_, losses_, sums_.counts, sums_.reach, sums_.importance, sums_.load}) {
    if (view) backend_.run(Fill{.x = view, .value = 0});
  }
  backend_.run(Fill{.x = optimizer_.gradient_squares(), .value = 0});
  for (size_t i = 0; i < table_.size(); ++i) {
    if (table_[i].trained() && table_[i].gradient_is_added) {
      backend_.run(Fill{.x = gradients()[i], .value = 0});
    }
  }
}

bool TrainingStep::counts_first(const RouteMode& mode) const {
  const bool second_stage = config_.routing_row().staged && !mode.learning;
  return step_.balance.counts_first() && !second_stage;
}

void TrainingStep::count_microbatch(const Batch& batch, const RouteMode& mode) {
  const TokenViews tokens = upload(batch);
  const Arena::Frame frame(memory_.scratch());
  Pass pass = make_pass(false, false, mode, memory_.saved());
  model_->forward(pass, tokens, {.sums = sums_, .collect = true}, nullptr, mode);
}

GradientsReady TrainingStep::ready_after(int64_t index) {
  if (index + 1 < step_.microbatches || step_.ranks == 1) return {};
  return [this](int64_t place) { communicator_.reduce_aside(trained_at(place, gradients())); };
}

void TrainingStep::train_microbatch(const Batch& batch, int64_t index, const RouteMode& mode) {
  const bool last = index + 1 == step_.microbatches;
  Pass pass = make_pass(index > 0, last, mode, memory_.saved());
  TrainedBatch trained_batch = trained(batch, index, 0, mode);
  if (index == 0 && !coming_.empty()) {
    trained_batch.before = [this](int64_t place) { communicator_.await(coming_[static_cast<size_t>(place + 1)]); };
  }
  model_->train(pass, trained_batch, gradient_weights_, ready_after(index));
}

View TrainingStep::score_microbatch(const Batch& batch, const RouteMode& mode) {
  const TokenViews tokens = upload(batch);
  const Arena::Frame frame(memory_.scratch());
  Pass pass = make_pass(false, false, mode, memory_.saved());
  const View row_loss = row_loss_.at(0).rows(0, tokens.count());
  model_->loss(pass, model_->forward(pass, tokens, {}, nullptr, mode), tokens.targets, row_loss);
  return row_loss;
}

// What a pair weighs depends on its own log-probabilities alone, so its microbatch does not matter.
void TrainingStep::weigh_pairs_of(std::vector<Batch>& batches, int64_t step) {
  PreferenceSums sums(step_.dpo_beta);
  int64_t first = 0;
  for (Batch& batch : batches) {
    const std::vector<double> losses = download_doubles(device_, score_microbatch(batch, step_.mode(step, first)));
    first += static_cast<int64_t>(batch.tokens.size());
    const std::vector<float> row_loss(losses.begin(), losses.end());
    weigh_pairs(batch, segment_log_probabilities(batch, row_loss), sums);
  }
  preference_ = sums.mean();
}

void TrainingStep::accumulate(const std::function<Batch(int64_t)>& batch, int64_t step) {
  MOE_CHECK(communicator_.size() == step_.ranks && communicator_.rank() == step_.rank);
  double weight = 0;
  int64_t tokens = 0;
  std::vector<Batch> batches;  // the rank's batches of the whole step, made before its token counts are known
  for (int64_t i = 0; i < step_.microbatches; ++i) {
    batches.push_back(batch(first_microbatch() + i));
    weight += batches.back().total_weight();
    tokens += batches.back().num_tokens;
  }
  if (step_.ranks > 1) {
    if (layout_.stage() > 0) weight = 0, tokens = 0;  // all stages have the same rows
    const std::vector<double> all = communicator_.sums({weight, static_cast<double>(tokens)});
    weight = all[0];
    tokens = static_cast<int64_t>(all[1]);
  }
  if (step_.objective == Objective::dpo) {
    await_weights();
    weigh_pairs_of(batches, step);
    weight = 0;
    for (const Batch& micro : batches) weight += static_cast<double>(micro.segment_tokens.size()) / 2;
  }
  begin(weight, tokens);
  if (step_.stages > 1 || counts_first(step_.mode(step, 0))) await_weights();
  const int64_t first_token = first_microbatch() * step_.microbatch_tokens;  // so draws do not depend on the ranks
  if (counts_first(step_.mode(step, 0))) {
    int64_t first = first_token;
    for (const Batch& micro : batches) {
      count_microbatch(micro, step_.mode(step, first));
      first += static_cast<int64_t>(micro.tokens.size());
    }
    for (const View& sum : {sums_.counts, sums_.reach, sums_.importance, sums_.load}) {
      if (sum) communicator_.all_reduce(sum);
    }
    for (const BatchPlace& place : places_) {
      upload_vector(device_, place.group_tokens, std::vector<int32_t>{static_cast<int32_t>(tokens)});
    }
  }
  std::vector<RouteMode> modes;
  int64_t first = first_token;
  for (const Batch& micro : batches) {
    modes.push_back(step_.mode(step, first));
    first += static_cast<int64_t>(micro.tokens.size());
  }
  if (step_.stages > 1) {
    train_in_stages(batches, modes);
  } else {
    for (size_t i = 0; i < batches.size(); ++i) train_microbatch(batches[i], static_cast<int64_t>(i), modes[i]);
  }
  communicator_.await();
  coming_.clear();
  for (const View& sum : {counts_, dropped_, losses_}) communicator_.all_reduce(sum);
}

std::vector<Rooted> TrainingStep::trained_at(int64_t place, const std::vector<View>& views) const {
  std::vector<Rooted> tensors;
  for (size_t i = 0; i < table_.size(); ++i) {
    const int64_t layers = config_.num_hidden_layers;
    const int64_t own = layout_.is_tied_head(table_[i]) ? layers : table_[i].place(layers);
    if (!table_[i].trained() || own != place) continue;
    tensors.push_back({views[i], owners_[i], layout_.holders(table_[i])});
  }
  return tensors;
}

void TrainingStep::begin_update(int64_t step, double learning_rate, bool accumulate_follows) {
  const bool light_is_done = step_.second_stage > 0 && step >= step_.second_stage;
  if (tied_) add_tied_gradients();
  optimizer_.sum_squares(backend_, step_.ranks == 1);
  communicator_.all_reduce(optimizer_.gradient_squares());
  // The weights of one place are sent while those of the next one are updated.
  const int64_t layers = config_.num_hidden_layers;
  int64_t place = -1;
  const auto send = [&] {
    std::vector<Rooted> tensors = trained_at(place, parameters());
    // It comes from the first stage, when that has updated it.
    const void* const head = layout_.stage() > 0 ? tied(parameters()).data : nullptr;
    std::erase_if(tensors, [&](const Rooted& one) { return one.x.data == head; });
    communicator_.broadcast_aside(tensors);
    if (step_.ranks > 1) coming_.push_back(communicator_.mark_aside());
  };
  optimizer_.update(
      device_, backend_, memory_.scratch(), step, learning_rate, norm_,
      [&](const Parameter& parameter) { return parameter.kind == ParameterKind::light_router && light_is_done; },
      [&](size_t next) {
        for (; place < table_[next].place(layers); ++place) send();
      });
  for (; place <= layers; ++place) send();
  if (tied_) send_tied_weights();
  if (!accumulate_follows) await_weights();
}

/// The matrix that is embedding and head, here; absent in stages that have neither.
View TrainingStep::tied(const std::vector<View>& views) const {
  for (size_t i = 0; i < table_.size(); ++i) {
    if (table_[i].role == ParameterRole::embedding) return views[i];
  }
  return {};
}

/// The embedding's owner adds the gradient that the last stage has of the same matrix.
void TrainingStep::add_tied_gradients() {
  if (step_.rank == tied_->head) communicator_.exchange({{tied(gradients()), tied_->embedding}}, {});
  if (step_.rank != tied_->embedding) return;
  const Arena::Frame frame(memory_.scratch());
  const View own = tied(gradients()), other = memory_.scratch().push("gradient of the head", own.dtype, own.shape);
  communicator_.exchange({}, {{other, tied_->head}});
  backend_.run(Add{.x = other, .y = own});
}

void TrainingStep::send_tied_weights() {
  const View weights = tied(parameters());
  if (step_.rank == tied_->embedding) communicator_.exchange({{weights, tied_->head}}, {});
  if (layout_.stage() == 0 || !weights) return;
  if (step_.rank == tied_->head) communicator_.exchange({}, {{weights, tied_->embedding}});
  communicator_.broadcast(weights, tied_->head, layout_.stage_group());
}

void TrainingStep::await_weights() {
  if (coming_.empty()) return;
  communicator_.await();
  coming_.clear();
}

StepReport TrainingStep::end_update() {
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
  double loss = std::accumulate(row_loss.begin(), row_loss.end(), 0.0);
  if (step_.ranks > 1) loss = communicator_.sums({loss})[0];
  report.preference = preference_;
  report.loss = preference_ ? preference_->loss : step_weight_ > 0 ? loss / step_weight_ : loss;
  report.losses = doubles(losses_);
  report.gradient_norm = doubles(norm_)[0];
  report.counts = integers(counts_);
  report.dropped = integers(dropped_);
  return report;
}

// Loss-free balancing, by the whole step's choices.
void TrainingStep::update_biases() {
  if (step_.balance.bias_rate == 0) return;
  const auto moe_layers_before = [&](int64_t layer) {
    int64_t count = 0;
    for (int64_t other = 0; other < layer; ++other) count += config_.is_moe_layer(other) ? 1 : 0;
    return count;
  };
  for (size_t i = 0; i < table_.size(); ++i) {
    if (table_[i].kind != ParameterKind::router_state || table_[i].is_table()) continue;
    const View counts = counts_.at(moe_layers_before(table_[i].layer)).at(0);
    if (table_[i].frozen) continue;
    backend_.run(BiasUpdate{.counts = counts, .rate = step_.balance.bias_rate, .bias = parameters()[i]});
  }
}

}  // namespace moe
