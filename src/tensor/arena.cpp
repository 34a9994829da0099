#include "tensor/arena.h"

#include <algorithm>

#include "tensor/unlimited.h"

namespace moe {

Arena::Arena(std::string name, void* base, size_t capacity)
    : name_(std::move(name)), base_(static_cast<char*>(base)), capacity_(capacity) {}

View Arena::push(std::string_view name, DType dtype, Shape shape) {
  size_t bytes = 0;
  const StorageType& type = storage(dtype);
  MOE_CHECK(shape.elements() == 0 || type.block == 1 || shape[shape.rank() - 1] % type.block == 0);
  if (__builtin_mul_overflow(static_cast<size_t>(shape.elements() / type.block), static_cast<size_t>(type.bytes),
                             &bytes)) {
    fail("{} {} {} has more bytes than 64 bits count; use a smaller model or fewer tokens at once", name,
         moe::name(dtype), shape.text());
  }
  const size_t padded = (bytes / kAlignment + 1) * kAlignment;  // never empty, so that every view has an own address
  if (padded > capacity_ - used_ && capacity_ == kUnlimitedBytes) {
    fail(
        "{} of {} {} with {} bytes before it in {} are more memory than can be planned; use fewer or shorter rows, or "
        "a "
        "smaller model",
        name, moe::name(dtype), shape.text(), used_, name_);
  }
  if (padded > capacity_ - used_) {
    fail(
        "{} memory is planned for {} bytes, but {} {} {} needs {} more than the {} in use; this is a mistake in the "
        "plan",
        name_, capacity_, name, moe::name(dtype), shape.text(), padded, used_);
  }
  const View view(base_ + used_, dtype, shape);
  offsets_.push_back(used_);
  buffers_.push_back({std::string(name), padded});
  used_ += padded;
  if (used_ > peak_) {
    peak_ = used_;
    at_peak_.resize(shared_);
    at_peak_.insert(at_peak_.end(), buffers_.begin() + static_cast<std::ptrdiff_t>(shared_), buffers_.end());
    shared_ = buffers_.size();
  }
  return view;
}

void Arena::release(size_t mark) {
  MOE_CHECK(mark <= used_);
  while (!offsets_.empty() && offsets_.back() >= mark) {
    offsets_.pop_back();
    buffers_.pop_back();
  }
  shared_ = std::min(shared_, buffers_.size());
  used_ = mark;
}

}  // namespace moe
