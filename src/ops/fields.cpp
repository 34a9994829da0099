#include "ops/fields.h"

#include <cstdint>

namespace moe {
namespace {

/// A view as `rows` runs of `width` bytes; the starts of two runs are `stride` bytes apart.
struct Runs {
  int64_t begin;
  int64_t rows = 1;
  int64_t width;
  int64_t stride = 0;
  bool exact = true;  ///< false: the view has more than two levels and only its bounds are described
};

Runs runs_of(const View& view) {
  const int last = view.rank() - 1;
  const int64_t item = storage(view.dtype).bytes;
  Runs runs{.begin = reinterpret_cast<int64_t>(view.data), .width = item};
  for (int axis = last; axis >= 0; --axis) {
    // Along the last axis blocks stand side by side; other strides are whole blocks.
    const int64_t size = axis == last ? view.shape[axis] / storage(view.dtype).block : view.shape[axis];
    const int64_t stride = axis == last ? item : bytes_of(view.dtype, view.stride[static_cast<size_t>(axis)]);
    if (size == 1) continue;
    if (runs.rows == 1 && stride == runs.width) {
      runs.width *= size;
    } else if (runs.rows == 1) {
      runs.rows = size;
      runs.stride = stride;
    } else if (stride == runs.rows * runs.stride) {
      runs.rows *= size;
    } else {
      runs.exact = false;
    }
  }
  return runs;
}

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

}  // namespace

bool overlap(const View& a, const View& b) {
  if (!a || !b || a.elements() == 0 || b.elements() == 0) return false;
  if (a.data >= b.end() || b.data >= a.end()) return false;
  const Runs p = runs_of(a);
  const Runs q = runs_of(b);
  if (!p.exact || !q.exact) return true;
  if (p.rows == 1 && q.rows == 1) return true;
  if (p.rows > 1 && q.rows > 1 && p.stride != q.stride) return true;
  // Row i of p and row j of q meet when -q.width < delta + k stride < p.width with k = j - i.
  const int64_t stride = p.rows > 1 ? p.stride : q.stride;
  const int64_t delta = q.begin - p.begin;
  const int64_t lowest = floor_divide(-q.width - delta, stride) + 1;
  const int64_t highest = floor_divide(p.width - delta - 1, stride);
  const int64_t first = lowest > 1 - p.rows ? lowest : 1 - p.rows;
  const int64_t last = highest < q.rows - 1 ? highest : q.rows - 1;
  return first <= last;
}

bool same_view(const View& a, const View& b) {
  if (a.data != b.data || a.dtype != b.dtype || !(a.shape == b.shape)) return false;
  for (int axis = 0; axis < a.rank(); ++axis) {
    const auto i = static_cast<size_t>(axis);
    if (a.shape[axis] > 1 && a.stride[i] != b.stride[i]) return false;
  }
  return true;
}

}  // namespace moe
