#pragma once
/// Device buffers for the tokens of one microbatch.

#include "batch/batch.h"
#include "batch/token_views.h"
#include "ops/backend.h"
#include "ops/device.h"
#include "tensor/arena.h"

namespace moe {

/// Use it on one thread at a time.
class TokenBuffers {
 public:
  /// Pushes room for `tokens` tokens on `arena`. `head_dim` is the width of the rotary table.
  TokenBuffers(Arena& arena, DType stat, int64_t tokens, int64_t head_dim);
  /// The same with a page table [sequences, pages], for tokens of a cache.
  TokenBuffers(Arena& arena, DType stat, int64_t tokens, int64_t head_dim, int64_t sequences, int64_t pages);

  /// Uploads a packed microbatch (documents side by side, no cache). The views are valid until the next upload.
  TokenViews upload(const Batch& batch, int64_t max_segment, double rope_theta, Device& device, Backend& backend);
  /// Uploads the first pages of one sequence: the start of its row of the page table. The other entries stay.
  void upload_pages(int64_t sequence, const std::vector<int32_t>& pages, Device& device);
  /// Uploads tokens for a cache: token t belongs to sequence[t] at positions[t]. The page table must have its pages.
  TokenViews upload_cached(const std::vector<int32_t>& ids, const std::vector<int32_t>& sequence,
                           const std::vector<int32_t>& positions, double rope_theta, Device& device, Backend& backend);

  int64_t capacity() const { return ids_.size(0); }

 private:
  TokenViews views(int64_t count, int64_t max_segment) const;

  View ids_, targets_, positions_, segment_start_, valid_, sequence_, weights_, rope_, pages_;
};

}  // namespace moe
