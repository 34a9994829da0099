#include "infer/device_steps.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
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

DeviceSteps::DeviceSteps(const ModelOnDevice& runtime, PassArenas& arenas, TokenBuffers& tokens, const View& logits,
                         const ChoiceViews& choices, const KvCache& cache)
    : runtime_(runtime), arenas_(arenas), tokens_(tokens), logits_(logits), choices_(choices), cache_(cache) {
  for (auto& copy : copies_) copy = runtime.device.late_copy(static_cast<size_t>(choices.sequences) * sizeof(int32_t));
}

void DeviceSteps::begin(const std::vector<StepRow>& rows) {
  MOE_CHECK(unread_ == 0 && !rows.empty());
  const auto used = static_cast<int64_t>(rows.size());
  const int64_t size = recorded_rows(used, choices_.sequences);
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
  const TokenViews views = tokens_.upload_cached(ids, sequence, positions, runtime_.model.config().rope_theta,
                                                 runtime_.device, runtime_.backend);
  if (drawn) choices_.set_draws(draws, runtime_.device);
  graph_ = &graphs_.try_emplace({size, drawn}, runtime_, arenas_, choices_.of_step(views, logits_, drawn), cache_)
                .first->second;
  rows_ = used;
}

void DeviceSteps::queue() {
  MOE_CHECK(graph_ != nullptr && unread_ < kMostUnread);
  graph_->step();
  copies_[static_cast<size_t>(next_)]->start(choices_.chosen.data);
  next_ = (next_ + 1) % kMostUnread;
  ++unread_;
}

std::vector<int32_t> DeviceSteps::read() {
  MOE_CHECK(unread_ > 0);
  const int64_t oldest = (next_ + kMostUnread - unread_) % kMostUnread;
  std::vector<int32_t> ids(static_cast<size_t>(rows_));
  std::memcpy(ids.data(), copies_[static_cast<size_t>(oldest)]->wait(), ids.size() * sizeof(int32_t));
  --unread_;
  return ids;
}

}  // namespace moe
