// Records of event files, byte by byte. tests/events reads them with TensorBoard's own reader.

#include "formats/event_file.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

namespace moe {
namespace {

/// The data of a record, after a check of its lengths and checksums.
std::string data_of(const std::string& record) {
  uint64_t size = 0;
  std::memcpy(&size, record.data(), 8);
  EXPECT_EQ(record.size(), size + 16);
  const auto masked = [](std::string_view bytes) {
    const uint32_t crc = crc32c(bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  };
  uint32_t of_length = 0, of_data = 0;
  std::memcpy(&of_length, record.data() + 8, 4);
  std::memcpy(&of_data, record.data() + 12 + size, 4);
  EXPECT_EQ(of_length, masked(record.substr(0, 8)));
  EXPECT_EQ(of_data, masked(record.substr(12, size)));
  return record.substr(12, size);
}

std::string bytes(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text += static_cast<char>(value);
  return text;
}

TEST(EventFile, TheChecksumIsThatOfTheStandard) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);            // the check value of CRC-32C
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(EventFile, BeginsWithItsVersion) {
  EXPECT_EQ(data_of(first_event(1.0)), bytes({0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x1a, 13}) + "brain.Event:2");
}

TEST(EventFile, AScalar) {
  EventSummary summary;
  EXPECT_TRUE(summary.empty());
  summary.add("loss", 1.5);
  EXPECT_FALSE(summary.empty());
  const std::string value = bytes({0x0a, 4}) + "loss" + bytes({0x15, 0, 0, 0xc0, 0x3f});
  const std::string expected = bytes({0x09, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11}) + value;
  EXPECT_EQ(data_of(summary.record(2.0, 300)), expected);
}

TEST(EventFile, ARestartNamesTheFirstStepThatCountsAgain) {
  EXPECT_EQ(data_of(restart_event(2.0, 9)), bytes({0x09, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x10, 9, 0x3a, 2, 0x08, 1}));
}

TEST(EventFile, AHistogramCountsEveryValueOnce) {
  const auto counts = [](const std::vector<double>& values) {
    EventSummary summary;
    summary.add_histogram("h", values);
    const std::string data = data_of(summary.record(1.0, 1));
    std::vector<double> found(30);  // the last field of the histogram, which ends the record
    std::memcpy(found.data(), data.data() + data.size() - 240, 240);
    return found;
  };
  std::vector<double> ranges(30);
  ranges[0] = 2;
  ranges[15] = 1;
  ranges[29] = 1;
  EXPECT_EQ(counts({0, 0, 1, 2}), ranges);
  std::vector<double> equal(30);
  equal[29] = 3;
  EXPECT_EQ(counts({5, 5, 5}), equal);
  EventSummary nothing;
  nothing.add_histogram("h", {});
  EXPECT_TRUE(nothing.empty());
}

}  // namespace
}  // namespace moe
