#include "tensor/dtype.h"

#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace moe {
namespace {

TEST(StorageTypes, HaveNamesOfTheirOwn) {
  std::set<std::string> names, files;
  for (const StorageType& type : kStorageTypes) {
    EXPECT_TRUE(names.insert(type.name).second) << type.name;
    if (type.safetensors != nullptr) {
      EXPECT_TRUE(files.insert(type.safetensors).second) << type.safetensors;
    }
    EXPECT_EQ((type.safetensors == nullptr), (type.torch == nullptr)) << type.name << ": config.json names it";
    EXPECT_EQ((type.to_floats == nullptr), (type.from_floats == nullptr)) << type.name;
    EXPECT_EQ(type.bytes % type.alignment, 0) << type.name;
    EXPECT_TRUE(is_plain(type.activations)) << type.name;
  }
}

/// What a type gives back of its own values is the same again, wherever the run begins, and nothing beside it is
/// written.
TEST(StorageTypes, GiveTheirOwnValuesBack) {
  for (const StorageType& type : kStorageTypes) {
    if (type.to_floats == nullptr) continue;
    const int64_t elements = 3 * type.block;
    std::vector<float> values(static_cast<size_t>(elements)), once(values.size()), twice(values.size() + 1, 7.0f);
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i * i + 1));
    const auto bytes = static_cast<size_t>(bytes_of(type.dtype, elements));
    std::vector<char> first(bytes + 2, 'x'), again(bytes + 2, 'x');
    type.from_floats(values.data(), first.data() + 1, elements);  // at an odd address
    type.to_floats(first.data() + 1, once.data(), elements);
    EXPECT_EQ(first[0], 'x') << type.name;
    EXPECT_EQ(first[bytes + 1], 'x') << type.name;
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(once[i], values[i], 0.2) << type.name << " " << i;
    if (type.block > 1) continue;  // scales of blocks are found anew
    type.from_floats(once.data(), again.data() + 1, elements);
    EXPECT_EQ(first, again) << type.name;
    type.to_floats(again.data() + 1, twice.data(), elements);
    EXPECT_EQ(std::memcmp(once.data(), twice.data(), once.size() * sizeof(float)), 0) << type.name;
    EXPECT_EQ(twice.back(), 7.0f) << type.name;
  }
}

}  // namespace
}  // namespace moe
