#include "template/meter.h"

#include "base/error.h"

namespace moe::jinja {

thread_local Meter* Meter::current = nullptr;

void spend(uint64_t steps) {
  Meter* meter = Meter::current;
  if (meter == nullptr) return;
  meter->steps += steps;
  if (meter->steps > meter->limits.steps) {
    fail("the template takes more than {} steps; the limit keeps a template from running for ever",
         meter->limits.steps);
  }
}

void need_room(uint64_t bytes) {
  Meter* meter = Meter::current;
  if (meter == nullptr) return;
  const uint64_t limit = meter->limits.live_bytes;
  if (bytes > limit || meter->live + bytes > limit)
    fail("the template's values take more than {} bytes of memory", limit);
  spend(bytes / 16);
}

Charge::Charge(uint64_t bytes) : meter_(Meter::current) {
  if (meter_ == nullptr) return;
  need_room(bytes);
  bytes_ = bytes;
  meter_->live += bytes;
}

Charge::~Charge() {
  if (meter_ != nullptr) meter_->live -= bytes_;
}

void Charge::grow(uint64_t bytes) {
  if (meter_ == nullptr) return;
  need_room(bytes);
  bytes_ += bytes;
  meter_->live += bytes;
}

}  // namespace moe::jinja
