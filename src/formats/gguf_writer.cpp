#include "formats/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/utf8.h"
#include "formats/gguf_types.h"

namespace moe {
namespace {

template <class T>
void append(std::string& to, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  to.append(bytes, sizeof(T));
}

void append_text(std::string& to, std::string_view text) {
  MOE_CHECK(utf8_valid_prefix(text) == text.size());
  append(to, uint64_t{text.size()});
  to += text;
}

template <class T, class From>
void append_as(std::string& to, const GgufValue& value) {
  const From x = std::get<From>(value.value);
  MOE_CHECK(static_cast<From>(static_cast<T>(x)) == x || x != x);
  append(to, static_cast<T>(x));
}

void append_value(std::string& to, const GgufValue& value) {
  switch (value.kind) {
    case GgufKind::u8:
      return append_as<uint8_t, uint64_t>(to, value);
    case GgufKind::u16:
      return append_as<uint16_t, uint64_t>(to, value);
    case GgufKind::u32:
      return append_as<uint32_t, uint64_t>(to, value);
    case GgufKind::u64:
      return append_as<uint64_t, uint64_t>(to, value);
    case GgufKind::i8:
      return append_as<int8_t, int64_t>(to, value);
    case GgufKind::i16:
      return append_as<int16_t, int64_t>(to, value);
    case GgufKind::i32:
      return append_as<int32_t, int64_t>(to, value);
    case GgufKind::i64:
      return append_as<int64_t, int64_t>(to, value);
    case GgufKind::f32:
      return append(to, static_cast<float>(std::get<double>(value.value)));
    case GgufKind::f64:
      return append(to, std::get<double>(value.value));
    case GgufKind::boolean:
      return append(to, static_cast<uint8_t>(std::get<bool>(value.value) ? 1 : 0));
    case GgufKind::text:
      return append_text(to, std::get<std::string>(value.value));
    case GgufKind::array:
      break;
  }
  const auto& array = std::get<GgufArray>(value.value);
  append(to, static_cast<uint32_t>(array.kind));
  append(to, uint64_t{array.values.size()});
  for (const GgufValue& one : array.values) {
    MOE_CHECK(one.kind == array.kind);
    append_value(to, one);
  }
}

}  // namespace

GgufWriter::GgufWriter(const fs::path& path, const std::vector<GgufEntry>& metadata, std::vector<Declaration> tensors)
    : tensors_(std::move(tensors)), writer_(path) {
  std::string header = "GGUF";
  append(header, uint32_t{3});
  append(header, uint64_t{tensors_.size()});
  append(header, uint64_t{metadata.size()});
  std::set<std::string_view> seen;
  for (const GgufEntry& entry : metadata) {
    MOE_CHECK(!entry.key.empty() && seen.insert(entry.key).second);
    if (entry.key == kGgufAlignmentKey) {
      MOE_CHECK(entry.value.kind == GgufKind::u32);
      alignment_ = std::get<uint64_t>(entry.value.value);
      check_gguf_alignment(static_cast<int64_t>(alignment_), path.string());
    }
    append_text(header, entry.key);
    append(header, static_cast<uint32_t>(entry.value.kind));
    append_value(header, entry.value);
  }
  seen.clear();
  uint64_t offset = 0;
  for (const Declaration& tensor : tensors_) {
    const StorageType& type = storage(tensor.dtype);
    MOE_CHECK(!tensor.name.empty() && tensor.name.size() <= 64 && seen.insert(tensor.name).second);
    MOE_CHECK(type.gguf >= 0 && tensor.shape.size() <= 4);
    MOE_CHECK(tensor.shape.empty() || tensor.shape.back() % type.block == 0);
    append_text(header, tensor.name);
    append(header, static_cast<uint32_t>(tensor.shape.size()));
    int64_t elements = 1;
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
      append(header, *size);
      if (*size < 0 || __builtin_mul_overflow(elements, *size, &elements) || elements > int64_t{1} << 58) {
        fail("{}: tensor {} has more elements than a file can hold", path.string(), tensor.name);
      }
    }
    append(header, static_cast<uint32_t>(type.gguf));
    append(header, offset);
    sizes_.push_back(static_cast<size_t>(bytes_of(tensor.dtype, elements)));
    offset += (sizes_.back() + alignment_ - 1) / alignment_ * alignment_;
  }
  writer_.write(header);
  if (!tensors_.empty()) pad();
  finish_complete();
}

void GgufWriter::pad() {
  const std::string zeros((alignment_ - writer_.size() % alignment_) % alignment_, '\0');
  writer_.write(zeros);
}

void GgufWriter::write(std::string_view name, const void* data, size_t bytes) {
  if (bytes == 0) return;
  MOE_CHECK(current_ < tensors_.size() && tensors_[current_].name == name);
  MOE_CHECK(bytes <= sizes_[current_] - written_);
  writer_.write(data, bytes);
  written_ += bytes;
  finish_complete();
}

void GgufWriter::finish_complete() {
  while (current_ < tensors_.size() && written_ == sizes_[current_]) {
    pad();
    ++current_;
    written_ = 0;
  }
}

void GgufWriter::commit() {
  MOE_CHECK(current_ == tensors_.size());
  writer_.commit();
}

}  // namespace moe
