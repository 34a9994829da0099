#pragma once
/// A backend that passes each operation on to another backend and adds up times and costs.

#include <chrono>
#include <map>
#include <string>

#include "ops/adapted_product.h"
#include "ops/count.h"
#include "ops/device.h"

namespace moe {

/// While it records, it waits for the device after each operation. So the time of an asynchronous backend is counted
/// for the right operation, but such a backend becomes much slower. For one thread at a time.
class RecordingBackend final : public EachOp<RecordingBackend>, public AddsInProducts {
 public:
  struct Record {
    int64_t calls = 0;
    double seconds = 0;
    int64_t flops = 0;
    int64_t bytes = 0;  ///< traffic_bytes
  };

  /// Both must outlive this object.
  RecordingBackend(Backend& inner, Device& device) : inner_(inner), device_(device) {}

  template <class Op>
  void on(const Op& op) {
    forward(op);
  }
  bool fuses() const override { return inner_.fuses(); }
  using EachOp<RecordingBackend>::execute;
  void execute(const ExpertRows<SwiGlu>& rows) override { fuses() ? forward(rows) : Backend::execute(rows); }
  void execute(const ExpertRows<SwiGluBackward>& rows) override { fuses() ? forward(rows) : Backend::execute(rows); }
  bool gathers(const ExpertsBackward& op) const override { return inner_.gathers(op); }
  void execute(const AdaptedProduct& op) override {
    auto* const as_one = dynamic_cast<AddsInProducts*>(&inner_);
    as_one == nullptr ? execute_in_turn(*this, op) : record(op, [&] { as_one->execute(op); });
  }

  const std::map<std::string, Record>& records() const { return records_; }
  void clear() { records_.clear(); }
  void record(bool on) { recording_ = on; }

 private:
  template <class Op>
  void forward(const Op& op) {
    record(op, [&] { inner_.execute(op); });  // run() has checked it
  }
  template <class Op, class Execute>
  void record(const Op& op, const Execute& execute) {
    if (!recording_) return execute();
    const auto start = std::chrono::steady_clock::now();
    execute();
    device_.synchronize();
    Record& record = records_[Op::name];
    record.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ++record.calls;
    record.flops += flops(op);
    record.bytes += traffic_bytes(op);
  }

  Backend& inner_;
  Device& device_;
  bool recording_ = true;
  std::map<std::string, Record> records_;
};

}  // namespace moe
