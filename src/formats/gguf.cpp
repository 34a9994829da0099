#include "formats/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/utf8.h"
#include "formats/gguf_types.h"

namespace moe {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are read without swapping bytes");

/// Takes the parts of a header off the front of a file.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  size_t at() const { return at_; }
  size_t left() const { return bytes_.size() - at_; }

  const std::byte* take(uint64_t bytes, const std::string& what) {
    if (bytes > left()) {
      fail("{} is cut short: {} takes {} bytes at byte {}, and {} are left", path_, what, bytes, at_, left());
    }
    const std::byte* const begin = bytes_.data() + at_;
    at_ += bytes;
    return begin;
  }

  template <class T>
  T number(const std::string& what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }

  std::string text(const std::string& what) {
    const auto length = number<uint64_t>("the length of " + what);
    const auto* begin = reinterpret_cast<const char*>(take(length, what));
    std::string result(begin, length);
    if (utf8_valid_prefix(result) != result.size()) {
      fail("{}: {} is not UTF-8 ({:?}); the file is damaged", path_, what, valid_utf8(result));
    }
    return result;
  }

  /// A number of things of which each takes `least` bytes or more.
  uint64_t count(uint64_t least, const std::string& what) {
    const auto found = number<uint64_t>("the number of " + what);
    if (found > left() / least) {
      fail("{} is damaged or cut short: it announces {} {}, for which {} bytes are too few", path_, found, what,
           left());
    }
    return found;
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& path_;
  size_t at_ = 0;
};

/// Least bytes of a value of a kind.
uint64_t least_bytes(GgufKind kind) {
  switch (kind) {
    case GgufKind::u8:
    case GgufKind::i8:
    case GgufKind::boolean:
      return 1;
    case GgufKind::u16:
    case GgufKind::i16:
      return 2;
    case GgufKind::u32:
    case GgufKind::i32:
    case GgufKind::f32:
      return 4;
    case GgufKind::array:
      return 12;
    default:
      return 8;
  }
}

GgufKind read_kind(Cursor& cursor, const std::string& key, const std::string& path) {
  const auto kind = cursor.number<uint32_t>("the type of " + key);
  if (kind >= kGgufKinds)
    fail("{}: {} has the value type {}, expected one of 0 to {}", path, key, kind, kGgufKinds - 1);
  return static_cast<GgufKind>(kind);
}

constexpr int kDeepestArray = 8;

GgufValue read_value(Cursor& cursor, GgufKind kind, const std::string& key, const std::string& path, int depth = 0) {
  switch (kind) {
    case GgufKind::u8:
      return {kind, uint64_t{cursor.number<uint8_t>(key)}};
    case GgufKind::u16:
      return {kind, uint64_t{cursor.number<uint16_t>(key)}};
    case GgufKind::u32:
      return {kind, uint64_t{cursor.number<uint32_t>(key)}};
    case GgufKind::u64:
      return {kind, cursor.number<uint64_t>(key)};
    case GgufKind::i8:
      return {kind, int64_t{cursor.number<int8_t>(key)}};
    case GgufKind::i16:
      return {kind, int64_t{cursor.number<int16_t>(key)}};
    case GgufKind::i32:
      return {kind, int64_t{cursor.number<int32_t>(key)}};
    case GgufKind::i64:
      return {kind, cursor.number<int64_t>(key)};
    case GgufKind::f32:
      return {kind, double{cursor.number<float>(key)}};
    case GgufKind::f64:
      return {kind, cursor.number<double>(key)};
    case GgufKind::boolean: {
      const auto byte = cursor.number<uint8_t>(key);
      if (byte > 1) fail("{}: {} is a boolean of {}, expected 0 or 1; the file is damaged", path, key, byte);
      return {kind, byte == 1};
    }
    case GgufKind::text:
      return {kind, cursor.text(key)};
    case GgufKind::array:
      break;
  }
  if (depth == kDeepestArray) fail("{}: {} is an array in arrays, more than {} deep", path, key, kDeepestArray);
  GgufArray array{.kind = read_kind(cursor, "the elements of " + key, path), .values = {}};
  const uint64_t count = cursor.count(least_bytes(array.kind), "elements of " + key);
  array.values.reserve(std::min<uint64_t>(count, 1 << 16));  // what is announced may not be there
  for (uint64_t i = 0; i < count; ++i) array.values.push_back(read_value(cursor, array.kind, key, path, depth + 1));
  return {kind, std::move(array)};
}

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr size_t kLongestName = 64, kMostAxes = 4;

uint32_t read_version(Cursor& cursor, const std::string& path) {
  if (cursor.left() < 2 * sizeof(uint32_t) || cursor.number<uint32_t>("the first word") != kMagic) {
    fail("{} is no GGUF file: it does not begin with \"GGUF\"", path);
  }
  const auto version = cursor.number<uint32_t>("the version");
  if (version == 2 || version == 3) return version;
  if (__builtin_bswap32(version) <= 3) {
    fail("{} is a big-endian GGUF file, which this program does not read; convert it to little-endian", path);
  }
  fail("{} is GGUF of version {}, expected 2 or 3; write it again with a newer program", path, version);
}

GgufTensor read_info(Cursor& cursor, const std::string& path, uint64_t& offset) {
  GgufTensor tensor;
  tensor.name = cursor.text("a tensor's name");
  const std::string what = fmt::format("{}: tensor {}", path, tensor.name);
  if (tensor.name.empty() || tensor.name.size() > kLongestName) {
    fail("{}: its name has {} bytes, expected 1 to {}", what, tensor.name.size(), kLongestName);
  }
  const auto axes = cursor.number<uint32_t>(tensor.name);
  if (axes > kMostAxes) fail("{}: it has {} axes, expected at most {}", what, axes, kMostAxes);
  for (uint32_t axis = 0; axis < axes; ++axis) {
    const auto size = cursor.number<uint64_t>(tensor.name);
    if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      fail("{}: it has the size {}, more than 63 bits count; the file is damaged", what, size);
    }
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
  const GgufTensorType type = gguf_type(cursor.number<uint32_t>(tensor.name), what);
  tensor.type = type.storage;
  tensor.type_name = type.name;
  offset = cursor.number<uint64_t>(tensor.name);
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % type.block != 0) {
    fail("{}: {} has rows of {} elements, expected whole blocks of {}", what, tensor.text(), row, type.block);
  }
  uint64_t bytes = static_cast<uint64_t>(type.bytes);
  for (size_t axis = 0; axis < tensor.shape.size(); ++axis) {
    const bool last = axis + 1 == tensor.shape.size();
    const auto size = static_cast<uint64_t>(last ? tensor.shape[axis] / type.block : tensor.shape[axis]);
    if (__builtin_mul_overflow(bytes, size, &bytes) || bytes > uint64_t{1} << 62) {
      fail("{}: {} has more bytes than 62 bits count; the file is damaged", what, tensor.text());
    }
  }
  tensor.bytes = bytes;
  return tensor;
}

uint64_t aligned(uint64_t offset, uint64_t alignment) { return (offset + alignment - 1) / alignment * alignment; }

/// Gives each tensor its bytes: in the order of their offsets they follow each other, but for padding.
void place(std::vector<GgufTensor>& tensors, const std::vector<uint64_t>& offsets, std::span<const std::byte> bytes,
           size_t header, uint64_t alignment, const std::string& path) {
  if (tensors.empty()) {
    if (aligned(header, alignment) < bytes.size()) {
      fail("{}: {} bytes at its end belong to no tensor", path, bytes.size() - header);
    }
    return;
  }
  const uint64_t begin = aligned(header, alignment);
  const uint64_t room = bytes.size() > begin ? bytes.size() - begin : 0;
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return offsets[a] < offsets[b]; });
  uint64_t end = 0;
  for (const size_t i : order) {
    GgufTensor& tensor = tensors[i];
    if (offsets[i] % alignment != 0) {
      fail("{}: tensor {} begins at byte {} of the data, expected a multiple of {}", path, tensor.name, offsets[i],
           alignment);
    }
    if (offsets[i] < end) fail("{}: the data of tensor {} overlaps another tensor's", path, tensor.name);
    if (offsets[i] != aligned(end, alignment)) {
      fail("{}: {} bytes before tensor {} belong to none", path, offsets[i] - end, tensor.name);
    }
    if (offsets[i] > room || tensor.bytes > room - offsets[i]) {
      fail("{} is cut short: tensor {} ends at byte {} of the data, and the file has {}", path, tensor.name,
           offsets[i] + tensor.bytes, room);
    }
    tensor.data = bytes.data() + begin + offsets[i];
    end = offsets[i] + tensor.bytes;
  }
  if (room > aligned(end, alignment)) fail("{}: {} bytes at its end belong to no tensor", path, room - end);
}

}  // namespace

int64_t GgufTensor::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

std::string GgufTensor::text() const { return fmt::format("{} [{}]", type_name, fmt::join(shape, ", ")); }

GgufFile::GgufFile(const fs::path& file) : file_(file) {
  const std::string path = file.string();
  Cursor cursor(file_.bytes(), path);
  version_ = read_version(cursor, path);
  constexpr uint64_t kLeastTensor = 8 + 1 + 4 + 4 + 8, kLeastEntry = 8 + 1 + 4 + 1;
  const uint64_t tensors = cursor.count(kLeastTensor, "tensors");
  const uint64_t entries = cursor.count(kLeastEntry, "metadata entries");
  for (uint64_t i = 0; i < entries; ++i) {
    const std::string key = cursor.text("a metadata key");
    if (key.empty()) fail("{}: metadata entry {} has no key; the file is damaged", path, i);
    if (!keys_.emplace(key, metadata_.size()).second) fail("{} is damaged: it has the key {} twice", path, key);
    metadata_.push_back({key, read_value(cursor, read_kind(cursor, key, path), key, path)});
  }
  if (value(kGgufAlignmentKey) != nullptr) {
    alignment_ = integer(kGgufAlignmentKey);
    check_gguf_alignment(alignment_, path);
  }
  std::vector<uint64_t> offsets(tensors);
  for (uint64_t i = 0; i < tensors; ++i) {
    tensors_.push_back(read_info(cursor, path, offsets[i]));
    if (!names_.emplace(tensors_.back().name, i).second) {
      fail("{} is damaged: it has the tensor {} twice", path, tensors_.back().name);
    }
  }
  place(tensors_, offsets, file_.bytes(), cursor.at(), static_cast<uint64_t>(alignment_), path);
}

const GgufValue* GgufFile::value(std::string_view key) const {
  const auto found = keys_.find(std::string(key));
  return found == keys_.end() ? nullptr : &metadata_[found->second].value;
}

int64_t GgufFile::integer(std::string_view key) const {
  const GgufValue* const found = value(key);
  if (found == nullptr) fail("{}: the metadata has no {}, expected an integer", path().string(), key);
  if (const auto* x = std::get_if<int64_t>(&found->value)) return *x;
  const auto* x = std::get_if<uint64_t>(&found->value);
  if (x == nullptr || *x > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    fail("{}: {} is {}, expected an integer of 63 bits", path().string(), key, found->shown());
  }
  return static_cast<int64_t>(*x);
}

const std::string& GgufFile::text(std::string_view key) const {
  const GgufValue* const found = value(key);
  if (found == nullptr) fail("{}: the metadata has no {}, expected a text", path().string(), key);
  const auto* text = std::get_if<std::string>(&found->value);
  if (text == nullptr) fail("{}: {} is {}, expected a text", path().string(), key, found->shown());
  return *text;
}

const std::vector<GgufValue>* GgufFile::array(std::string_view key, GgufKind kind) const {
  const GgufValue* const found = value(key);
  if (found == nullptr) return nullptr;
  const auto* array = std::get_if<GgufArray>(&found->value);
  if (array == nullptr || array->kind != kind) {
    fail("{}: {} is {}, expected an array of {} values", path().string(), key, found->shown(), name(kind));
  }
  return &array->values;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = names_.find(std::string(name));
  return found == names_.end() ? nullptr : &tensors_[found->second];
}

bool is_gguf(const fs::path& path) {
  std::error_code ignored;
  return path.extension() == ".gguf" && !fs::is_directory(path, ignored);
}

}  // namespace moe
