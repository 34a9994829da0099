#include "formats/event_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

namespace moe {
namespace {

constexpr size_t kRanges = 30;

constexpr std::array<uint32_t, 256> crc32c_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? (value >> 1) ^ 0x82f63b78u : value >> 1;
    table[byte] = value;
  }
  return table;
}

void append_fixed(std::string& to, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to += static_cast<char>(value >> (8 * i) & 255);
}

/// The fields of a message of Protocol Buffers. `number` is the field's.
class Message {
 public:
  void integer(uint32_t number, int64_t value) {
    varint(number << 3);
    varint(static_cast<uint64_t>(value));
  }
  void real64(uint32_t number, double value) {
    varint(number << 3 | 1);
    append_fixed(bytes_, std::bit_cast<uint64_t>(value), 8);
  }
  void real32(uint32_t number, float value) {
    varint(number << 3 | 5);
    append_fixed(bytes_, std::bit_cast<uint32_t>(value), 4);
  }
  /// A string or a message inside.
  void bytes(uint32_t number, std::string_view value) {
    varint(number << 3 | 2);
    varint(value.size());
    bytes_ += value;
  }
  void reals64(uint32_t number, std::span<const double> values) {
    std::string packed;
    for (const double value : values) append_fixed(packed, std::bit_cast<uint64_t>(value), 8);
    bytes(number, packed);
  }
  const std::string& text() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 128; value >>= 7) bytes_ += static_cast<char>((value & 127) | 128);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

std::string as_record(std::string_view data) {
  std::string record;
  append_fixed(record, data.size(), 8);
  append_fixed(record, masked_crc(record), 4);
  record += data;
  append_fixed(record, masked_crc(data), 4);
  return record;
}

// Fields of Event: 1 wall_time, 2 step, 3 file_version, 5 summary, 7 session_log.
Message event(double time, int64_t step) {
  Message message;
  message.real64(1, time);
  if (step != 0) message.integer(2, step);
  return message;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> table = crc32c_table();
  uint32_t value = ~0u;
  for (const char byte : bytes) value = table[(value ^ static_cast<uint8_t>(byte)) & 255] ^ value >> 8;
  return ~value;
}

std::string first_event(double time) {
  Message message = event(time, 0);
  message.bytes(3, "brain.Event:2");
  return as_record(message.text());
}

std::string restart_event(double time, int64_t step) {
  Message session, message = event(time, step);
  session.integer(1, 1);  // SessionLog.status = START
  message.bytes(7, session.text());
  return as_record(message.text());
}

// Fields of Summary: 1 value; of Value: 1 tag, 2 simple_value, 5 histo.
void EventSummary::add(std::string_view tag, double value) {
  Message one, summary;
  one.bytes(1, tag);
  one.real32(2, static_cast<float>(value));
  summary.bytes(1, one.text());
  values_ += summary.text();
}

// Fields of HistogramProto: 1 min, 2 max, 3 num, 4 sum, 5 sum_squares, 6 bucket_limit, 7 bucket.
void EventSummary::add_histogram(std::string_view tag, std::span<const double> values) {
  if (values.empty()) return;
  const auto [least, largest] = std::minmax_element(values.begin(), values.end());
  const double low = *least, high = *largest, width = (high - low) / kRanges;
  double sum = 0, squares = 0;
  std::vector<double> limits(kRanges), counts(kRanges);
  for (size_t i = 0; i < kRanges; ++i) limits[i] = i + 1 == kRanges ? high : low + width * static_cast<double>(i + 1);
  for (const double value : values) {
    sum += value;
    squares += value * value;
    const size_t range = width > 0 ? static_cast<size_t>((value - low) / width) : kRanges - 1;
    counts[std::min(range, kRanges - 1)] += 1;
  }
  Message histogram, one, summary;
  histogram.real64(1, low);
  histogram.real64(2, high);
  histogram.real64(3, static_cast<double>(values.size()));
  histogram.real64(4, sum);
  histogram.real64(5, squares);
  histogram.reals64(6, limits);
  histogram.reals64(7, counts);
  one.bytes(1, tag);
  one.bytes(5, histogram.text());
  summary.bytes(1, one.text());
  values_ += summary.text();
}

std::string EventSummary::record(double time, int64_t step) const {
  Message message = event(time, step);
  message.bytes(5, values_);
  return as_record(message.text());
}

}  // namespace moe
