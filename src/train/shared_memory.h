#pragma once
/// How far saved activations may overlap the memory of the gradients.
///
/// With one microbatch, backward writes each gradient for the first time, from the last layer to the first. By then the
/// saved activations of the later layers are no longer needed. Saved activations are a stack that grows from layer to
/// layer, and so do the addresses of the gradients. So both share one block: the stack begins `lead` bytes before the
/// gradients. The lead is large enough that the stack never overlaps a gradient that is already written.

#include <algorithm>
#include <limits>

#include "ops/backend.h"
#include "tensor/arena.h"

namespace moe {

/// A backend that passes each operation on and finds the smallest lead: the maximum over all operations of the height
/// of the stack minus the offset of the lowest gradient written so far. For one thread at a time.
class SharingWatch final : public EachOp<SharingWatch> {
 public:
  explicit SharingWatch(Backend& inner) : inner_(inner) {}

  /// Begins to watch `bytes` bytes of `gradients`, none of them written yet. `saved` and the gradients must outlive
  /// this object.
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
