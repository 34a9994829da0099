#pragma once
/// Event files of TensorBoard: scalars and histograms by step.
///
/// A file is a sequence of records: the length of the data (64 bits), the masked CRC-32C of the length, the data and
/// the masked CRC-32C of the data (the records of TFRecord). The data of a record is an Event in the form of Protocol
/// Buffers.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace moe {

/// The checksum with the polynomial of iSCSI (Castagnoli), which these records use.
uint32_t crc32c(std::string_view bytes);

/// The record that a file begins with. `time` is in seconds since 1970, here and below.
std::string first_event(double time);

/// Tells a reader that events of earlier files from `step` on do not count: a run was resumed.
std::string restart_event(double time, int64_t step);

/// The values of one step, as one record. Use it on one thread at a time.
class EventSummary {
 public:
  void add(std::string_view tag, double value);
  /// How `values` are distributed, in 30 equal ranges from the least to the largest. Nothing for no values.
  void add_histogram(std::string_view tag, std::span<const double> values);

  bool empty() const { return values_.empty(); }
  std::string record(double time, int64_t step) const;

 private:
  std::string values_;  // of the message Summary
};

}  // namespace moe
