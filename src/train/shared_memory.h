#pragma once
/// How far saved activations may lie in the gradients' memory.
///
/// With one microbatch a gradient is first written in backward, layer after layer from the last one, when the saved
/// activations of the layers behind are gone already. Saved activations are a stack that grows from layer to layer as
/// the gradients' addresses do, so both share one block: the stack begins a `lead` before the gradients, large enough
/// that it never reaches a gradient that is written.

#include <algorithm>
#include <limits>

#include "ops/backend.h"
#include "tensor/arena.h"

namespace moe {

/// A backend that passes each operation on and finds the least lead: over all operations, the height of the stack less
/// the offset of the lowest gradient written so far.
class SharingWatch final : public EachOp<SharingWatch> {
 public:
  explicit SharingWatch(Backend& inner) : inner_(inner) {}

  /// Begins to watch: `gradients` of `bytes` bytes, none of them written. Both must outlive it.
  void watch(const Arena& saved, const void* gradients, size_t bytes) {
    saved_ = &saved;
    gradients_ = static_cast<const char*>(gradients);
    bytes_ = static_cast<int64_t>(bytes);
    lowest_ = kNone;
  }
  int64_t lead() const { return lead_; }

  template <class Op>
  void on(const Op& op) {
    inner_.execute(op);  // run() has checked it
    if (saved_ == nullptr) return;
    for_each_view(op, [&](const Field<Op>& field, const View& view) {
      const int64_t offset = static_cast<const char*>(view.data) - gradients_;
      if (field.role != Role::in && offset >= 0 && offset < bytes_) lowest_ = std::min(lowest_, offset);
    });
    lead_ = std::max(lead_, static_cast<int64_t>(saved_->mark()) - lowest_);
  }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max() / 2;

  Backend& inner_;
  const Arena* saved_ = nullptr;
  const char* gradients_ = nullptr;
  int64_t bytes_ = 0;
  int64_t lowest_ = kNone;
  int64_t lead_ = 0;
};

}  // namespace moe
