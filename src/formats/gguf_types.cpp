#include "formats/gguf_types.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace moe {
namespace {

/// Types that files may have and this program does not work with. A row of kStorageTypes counts first.
struct OtherType {
  uint32_t number;
  const char* name;
  int64_t block, bytes;
};
constexpr OtherType kOthers[] = {
    {10, "Q2_K", 256, 84},   {11, "Q3_K", 256, 110},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74}, {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},
    {21, "IQ3_S", 256, 110}, {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},
    {25, "I16", 1, 2},       {27, "I64", 1, 8},        {29, "IQ1_M", 256, 56},   {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},  {39, "MXFP4", 32, 17},
};

}  // namespace

GgufTensorType gguf_type(uint32_t number, const std::string& what) {
  for (const StorageType& type : kStorageTypes) {
    if (type.gguf < 0 || static_cast<uint32_t>(type.gguf) != number) continue;
    std::string name = type.name;
    std::transform(name.begin(), name.end(), name.begin(), [](char letter) {
      return letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 32) : letter;
    });
    return {&type, name, type.block, type.bytes};
  }
  for (const OtherType& type : kOthers) {
    if (type.number == number) return {nullptr, type.name, type.block, type.bytes};
  }
  fail("{}: its type has the number {}, which is not one that this program knows", what, number);
}

void check_gguf_alignment(int64_t alignment, const std::string& path) {
  constexpr int64_t kLeast = 8, kMost = int64_t{1} << 20;
  if (alignment >= kLeast && alignment <= kMost && std::has_single_bit(static_cast<uint64_t>(alignment))) return;
  fail("{}: {} is {}, expected a power of two from {} to {}", path, kGgufAlignmentKey, alignment, kLeast, kMost);
}

}  // namespace moe
