#pragma once
/// Device buffers for the tokens of one microbatch.

#include "data/batch.h"
#include "nn/pass.h"
#include "ops/device.h"

namespace moe {

class TokenBuffers {
 public:
  /// Pushes room for `tokens` tokens on `arena`. `head_dim` is the width of the rotary table.
  TokenBuffers(Arena& arena, DType stat, int64_t tokens, int64_t head_dim);

  /// Uploads a packed microbatch (documents side by side, no cache). The views are valid until the next upload.
  TokenViews upload(const Batch& batch, int64_t max_segment, double rope_theta, Device& device, Backend& backend);
  /// Uploads tokens for a cache: token t belongs to sequence[t] at positions[t].
  TokenViews upload_cached(const std::vector<int32_t>& ids, const std::vector<int32_t>& sequence,
                           const std::vector<int32_t>& positions, double rope_theta, Device& device, Backend& backend);

  int64_t capacity() const { return ids_.size(0); }

 private:
  TokenViews views(int64_t count, int64_t max_segment) const;

  View ids_, targets_, positions_, segment_start_, valid_, sequence_, rope_;
};

/// Copies a host vector to the first elements of a device view with the same element size.
template <class T>
void upload_vector(Device& device, const View& view, const std::vector<T>& values) {
  MOE_CHECK(static_cast<size_t>(view.elements()) >= values.size() && size_of(view.dtype) == sizeof(T));
  device.upload(view.data, values.data(), values.size() * sizeof(T));
}

/// All elements of a contiguous f32 or f64 view.
std::vector<double> download_doubles(Device& device, const View& view);

/// A batch for a pass over a null device, where only sizes matter.
Batch placeholder_batch(int64_t tokens, int64_t row_length);

}  // namespace moe
