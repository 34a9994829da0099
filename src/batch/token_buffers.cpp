
#include "batch/token_buffers.h"

#include <algorithm>

#include "ops/transfer.h"

namespace moe {

TokenBuffers::TokenBuffers(Arena& arena, DType stat, int64_t tokens, int64_t head_dim) {
  for (View* view : {&ids_, &targets_, &positions_, &segment_start_, &valid_, &sequence_}) {
    *view = arena.push("tokens", DType::i32, {tokens});
  }
  weights_ = arena.push("weights", stat, {tokens});
  rope_ = arena.push("rope", stat, {tokens, head_dim});
}

TokenBuffers::TokenBuffers(Arena& arena, DType stat, int64_t tokens, int64_t head_dim, int64_t sequences, int64_t pages)
    : TokenBuffers(arena, stat, tokens, head_dim) {
  pages_ = arena.push("pages", DType::i32, {sequences, pages});
}

void TokenBuffers::upload_pages(int64_t sequence, const std::vector<int32_t>& pages, Device& device) {
  upload_vector(device, pages_.at(sequence), pages);
}

TokenViews TokenBuffers::views(int64_t count, int64_t max_segment) const {
  MOE_CHECK(count <= capacity());
  return {.ids = ids_.rows(0, count),
          .positions = positions_.rows(0, count),
          .rope = rope_.rows(0, count),
          .segment_start = segment_start_.rows(0, count),
          .valid = valid_.rows(0, count),
          .max_segment = std::min(max_segment, count)};
}

namespace {

// 0 for real tokens and -1 for padding, from any list that marks padding by a negative number.
std::vector<int32_t> validity(const std::vector<int32_t>& marks) {
  std::vector<int32_t> valid(marks.size());
  std::transform(marks.begin(), marks.end(), valid.begin(), [](int32_t mark) { return mark < 0 ? -1 : 0; });
  return valid;
}

}  // namespace

TokenViews TokenBuffers::upload(const Batch& batch, int64_t max_segment, double rope_theta, Device& device,
                                Backend& backend) {
  TokenViews tokens = views(batch.rows * batch.sequence_length, max_segment);
  tokens.targets = targets_.rows(0, tokens.count());
  tokens.row_length = batch.sequence_length;
  upload_vector(device, ids_, batch.tokens);
  upload_vector(device, targets_, batch.targets);
  if (!batch.weights.empty()) {
    tokens.weights = weights_.rows(0, tokens.count());
    upload_floats(device, tokens.weights, batch.weights);
  }
  upload_vector(device, positions_, batch.positions);
  upload_vector(device, segment_start_, batch.segment_start);
  upload_vector(device, valid_, validity(batch.segment_id));
  backend.run(RopeTable{.positions = tokens.positions, .theta = rope_theta, .table = tokens.rope});
  return tokens;
}

TokenViews TokenBuffers::upload_cached(const std::vector<int32_t>& ids, const std::vector<int32_t>& sequence,
                                       const std::vector<int32_t>& positions, double rope_theta, Device& device,
                                       Backend& backend) {
  TokenViews tokens = views(static_cast<int64_t>(ids.size()), static_cast<int64_t>(ids.size()));
  tokens.sequence = sequence_.rows(0, tokens.count());
  tokens.pages = pages_;
  upload_vector(device, ids_, ids);
  upload_vector(device, sequence_, sequence);
  upload_vector(device, positions_, positions);
  upload_vector(device, valid_, validity(sequence));
  backend.run(RopeTable{.positions = tokens.positions, .theta = rope_theta, .table = tokens.rope});
  return tokens;
}

}  // namespace moe
