#include "infer/device_steps.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/progress_count.h"
#include "ops/transfer.h"

namespace moe {

ChoiceViews::ChoiceViews(Arena& arena, int64_t rows, int64_t most, const ModelConfig& config, bool penalties)
    : sequences(most) {
  allowed = arena.push("allowed ids", DType::i32, {config.vocab_size});
  draws = arena.push("draws", DType::i32, {rows, kDrawWords});
  if (penalties) counts = arena.push("counts of ids", DType::i32, {sequences, config.vocab_size});
  for (View* view : {&chosen, &sequence, &positions, &ids}) *view = arena.push("choices", DType::i32, {rows});
}

void ChoiceViews::set_allowed(const std::vector<int32_t>& given, Device& device) {
  all_allowed = std::find(given.begin(), given.end(), 0) == given.end();
  upload_vector(device, allowed, given);
}

void ChoiceViews::set_history(int64_t row, const std::vector<int32_t>& history, Device& device) const {
  if (!counts) return;
  std::vector<int32_t> occurrences(static_cast<size_t>(counts.size(1)), 0);
  for (const int32_t id : history) ++occurrences[static_cast<size_t>(id)];
  upload_vector(device, counts.at(row), occurrences);
}

void ChoiceViews::set_draws(const std::vector<TokenDraw>& each, Device& device) const {
  std::vector<int32_t> words;
  for (const TokenDraw& draw : each) {
    const DrawWords row = words_of(draw);
    words.insert(words.end(), row.begin(), row.end());
  }
  upload_vector(device, draws, words);
}

void ChoiceViews::choose(const View& logits, const PagedPass& pass, Device& device, Backend& backend) const {
  const auto rows = static_cast<int64_t>(pass.wanted.size());
  std::vector<int32_t> of, at;
  for (const int32_t token : pass.wanted) {
    of.push_back(pass.sequence[static_cast<size_t>(token)]);
    at.push_back(pass.positions[static_cast<size_t>(token)]);
  }
  set_draws(pass.draws, device);
  upload_vector(device, sequence, of);
  upload_vector(device, positions, at);
  backend.run(NextToken{.logits = logits,
                        .allowed = all_allowed ? View{} : allowed,
                        .draws = draws.rows(0, rows),
                        .counts = counts,
                        .sequence = sequence.rows(0, rows),
                        .ids = ids.rows(0, rows),
                        .positions = positions.rows(0, rows),
                        .chosen = chosen.rows(0, rows)});
}

std::vector<int32_t> ChoiceViews::chosen_ids(int64_t rows, Device& device) const {
  std::vector<int32_t> result(static_cast<size_t>(rows));
  device.download(result.data(), chosen.data, result.size() * sizeof(int32_t));
  return result;
}

DecodeViews ChoiceViews::of_step(const TokenViews& tokens, const View& logits, bool drawn) const {
  const int64_t rows = tokens.count();
  return {.tokens = tokens,
          .logits = logits.rows(0, rows),
          .allowed = all_allowed ? View{} : allowed,
          .draws = drawn ? draws.rows(0, rows) : View{},
          .counts = drawn ? counts : View{},
          .chosen = chosen.rows(0, rows)};
}

int64_t recorded_rows(int64_t rows, int64_t most) {
  int64_t size = 1;
  while (size < rows) size += size < 4 ? size : size < 16 ? 4 : size < 64 ? 16 : 64;
  return std::min(size, most);
}

DeviceSteps::DeviceSteps(const ModelOnDevice& runtime, PassArenas& arenas, const StepViews& views)
    : runtime_(runtime), arenas_(arenas), views_(views) {
  const auto most = static_cast<size_t>(views.choices.sequences) * sizeof(int32_t);
  for (Copies& copies : copies_) {
    copies.ids = runtime.device.late_copy(most);
    if (views.experts) copies.experts = runtime.device.late_copy(experts(views.choices.sequences).bytes());
  }
}

View DeviceSteps::experts(int64_t rows) const {
  if (!views_.experts) return {};
  const ModelConfig& config = runtime_.model.config();
  const Shape shape{config.moe_layers(), rows, config.router().slots()};
  return views_.experts.rows(0, shape.elements()).reshaped(shape);
}

void DeviceSteps::begin(const std::vector<StepRow>& rows) {
  MOE_CHECK(unread_ == 0 && !rows.empty());
  const auto used = static_cast<int64_t>(rows.size());
  const int64_t size = recorded_rows(used, views_.choices.sequences);
  std::vector<int32_t> ids(static_cast<size_t>(size), 0), sequence(ids.size(), -1), positions(ids.size(), 0);
  std::vector<TokenDraw> draws(ids.size());
  for (size_t row = 0; row < rows.size(); ++row) {
    ids[row] = rows[row].id;
    sequence[row] = rows[row].sequence;
    positions[row] = rows[row].position;
    draws[row] = rows[row].draw;
  }
  const bool drawn = std::any_of(rows.begin(), rows.end(), [](const StepRow& row) {
    return row.draw.options.temperature > 0 || row.draw.options.penalises();
  });
  const TokenViews tokens = views_.tokens.upload_cached(ids, sequence, positions, runtime_.model.config().rope_theta,
                                                        runtime_.device, runtime_.backend);
  if (drawn) views_.choices.set_draws(draws, runtime_.device);
  DecodeViews step = views_.choices.of_step(tokens, views_.logits, drawn);
  step.experts = experts(size);
  graph_ = &graphs_.try_emplace({size, drawn}, runtime_, arenas_, step, views_.cache).first->second;
  rows_ = used;
  recorded_ = size;
}

void DeviceSteps::queue() {
  MOE_CHECK(graph_ != nullptr && unread_ < kMostUnread);
  graph_->step();
  const Copies& copies = copies_[static_cast<size_t>(next_)];
  copies.ids->start(views_.choices.chosen.data);
  if (copies.experts) copies.experts->start(views_.experts.data);
  next_ = (next_ + 1) % kMostUnread;
  ++unread_;
}

StepChoices DeviceSteps::read() {
  MOE_CHECK(unread_ > 0);
  note_progress();  // a replay runs no operation of the backend
  const Copies& oldest = copies_[static_cast<size_t>((next_ + kMostUnread - unread_) % kMostUnread)];
  const auto used = static_cast<size_t>(rows_), recorded = static_cast<size_t>(recorded_);
  const auto* const ids = static_cast<const int32_t*>(oldest.ids->wait());
  StepChoices result{.ids = {ids, ids + used}, .experts = {}};
  if (oldest.experts) {
    const auto* const experts = static_cast<const int32_t*>(oldest.experts->wait());
    const ModelConfig& config = runtime_.model.config();
    const auto choices = static_cast<size_t>(config.router().slots());
    for (size_t layer = 0; layer < static_cast<size_t>(config.moe_layers()); ++layer) {
      const auto* const of_layer = experts + layer * recorded * choices;
      result.experts.insert(result.experts.end(), of_layer, of_layer + used * choices);
    }
  }
  --unread_;
  return result;
}

}  // namespace moe
