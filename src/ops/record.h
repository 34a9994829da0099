#pragma once
/// A backend that passes each operation on to another backend and adds up times and costs.

#include <chrono>
#include <map>
#include <string>

#include "ops/count.h"
#include "ops/device.h"

namespace moe {

/// While it records, it waits for the device after each operation. So the time of an asynchronous backend is counted
/// for the right operation, but such a backend becomes much slower. For one thread at a time.
class RecordingBackend final : public EachOp<RecordingBackend> {
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

  const std::map<std::string, Record>& records() const { return records_; }
  void clear() { records_.clear(); }
  void record(bool on) { recording_ = on; }

 private:
  template <class Op>
  void forward(const Op& op) {
    if (!recording_) return inner_.execute(op);
    const auto start = std::chrono::steady_clock::now();
    inner_.execute(op);  // run() has checked it
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
