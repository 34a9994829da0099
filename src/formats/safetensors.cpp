#include "formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/thread_start.h"
#include "formats/json_keys.h"

namespace moe {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are read without swapping bytes");

constexpr size_t kLengthBytes = 8;
constexpr size_t kAlignment = 64;
// The limit of the format's own library. A larger number is probably another kind of file.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

Json parse_header(std::string_view text, const std::string& path) {
  Json header;
  const JsonWatch watch = refuse_repeated_keys(path + " is damaged: its header");
  if (const auto mistake = find_json_mistake(text, header, watch)) {
    fail("{} is not a safetensors file, or is damaged: its header is not valid JSON near byte {}: {}", path,
         mistake->byte + kLengthBytes, mistake->reason);
  }
  return header;
}

// shape * element size; fails if it does not fit 64 bits.
size_t bytes_of(const std::vector<int64_t>& shape, size_t element_size, const std::string& what) {
  uint64_t bytes = element_size;
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes) ||
        bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      fail("{}: the shape has more elements than 64 bits can count", what);
    }
  }
  return bytes;
}

std::vector<int64_t> read_shape(const Json& value, const std::string& what) {
  if (!value.is_array()) fail("{}: \"shape\" is {}, expected a list of sizes", what, json_shown(value));
  std::vector<int64_t> shape;
  for (const auto& size : value) {
    const bool valid = size.is_number_unsigned() && size.get<uint64_t>() <= uint64_t{1} << 62;
    if (!valid) fail("{}: \"shape\" has the size {}, expected an integer of 0 or more", what, json_shown(size));
    shape.push_back(size.get<int64_t>());
  }
  return shape;
}

std::pair<uint64_t, uint64_t> read_offsets(const Json& value, size_t data_bytes, const std::string& what) {
  const bool valid =
      value.is_array() && value.size() == 2 && value[0].is_number_unsigned() && value[1].is_number_unsigned();
  if (!valid) fail("{}: \"data_offsets\" is {}, expected [begin, end]", what, json_shown(value));
  const auto begin = value[0].get<uint64_t>();
  const auto end = value[1].get<uint64_t>();
  if (begin > end) fail("{}: its data ends at {}, before its beginning at {}", what, end, begin);
  if (end > data_bytes) {
    fail("{}: its data ends at byte {}, but the file has {} bytes of data; the file may be cut short", what, end,
         data_bytes);
  }
  return {begin, end};
}

SafetensorsTensor read_tensor(const std::string& name, const Json& entry, std::span<const std::byte> data,
                              const std::string& path) {
  const std::string what = fmt::format("{}: tensor {}", path, name);
  if (!entry.is_object()) fail("{}: its entry is {}, expected an object", what, json_shown(entry));
  for (const char* field : {"dtype", "shape", "data_offsets"}) {
    if (!entry.contains(field)) fail("{}: its entry has no \"{}\"", what, field);
  }
  if (!entry["dtype"].is_string()) fail("{}: \"dtype\" is {}, expected a name", what, json_shown(entry["dtype"]));
  SafetensorsTensor tensor{.name = name, .dtype = entry["dtype"].get<std::string>(), .shape = {}};
  const size_t element_size = safetensors_element_size(tensor.dtype);
  if (element_size == 0) fail("{}: the type \"{}\" is not one that this program knows", what, tensor.dtype);
  tensor.shape = read_shape(entry["shape"], what);
  const auto [begin, end] = read_offsets(entry["data_offsets"], data.size(), what);
  tensor.data = data.data() + begin;
  tensor.bytes = end - begin;
  if (const size_t expected = bytes_of(tensor.shape, element_size, what); tensor.bytes != expected) {
    fail("{}: {} needs {} bytes, but its data_offsets give {}", what, tensor.text(), expected, tensor.bytes);
  }
  return tensor;
}

}  // namespace

size_t safetensors_element_size(std::string_view dtype) {
  if (const StorageType* type = safetensors_type(dtype)) return static_cast<size_t>(type->bytes);
  // Read past, but not worked with. A row of kStorageTypes counts first.
  static const std::map<std::string_view, size_t> others = {{"I64", 8},  {"U64", 8},     {"U32", 4},
                                                            {"I16", 2},  {"U16", 2},     {"I8", 1},
                                                            {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  const auto found = others.find(dtype);
  return found == others.end() ? 0 : found->second;
}

const StorageType* safetensors_type(std::string_view dtype) {
  for (const StorageType& type : kStorageTypes) {
    if (type.safetensors != nullptr && dtype == type.safetensors) return &type;
  }
  return nullptr;
}

int64_t SafetensorsTensor::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

std::string SafetensorsTensor::text() const { return fmt::format("{} [{}]", dtype, fmt::join(shape, ", ")); }

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(path) {
  const auto bytes = file_.bytes();
  if (bytes.size() < kLengthBytes) {
    fail("{} is not a safetensors file: it has {} bytes, and the header's length alone takes {}", path.string(),
         bytes.size(), kLengthBytes);
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - kLengthBytes) {
    fail("{} is not a safetensors file, or is cut short: it announces a header of {} bytes and has {} bytes in all",
         path.string(), header_bytes, bytes.size());
  }
  read_header(file_.text().substr(kLengthBytes, header_bytes), bytes.subspan(kLengthBytes + header_bytes));
}

void SafetensorsFile::read_header(std::string_view text, std::span<const std::byte> data) {
  const std::string path = file_.path().string();
  const auto header = parse_header(text, path);
  if (!header.is_object()) fail("{} is not a safetensors file: its header is not a JSON object", path);
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      tensors_.push_back(read_tensor(name, entry, data, path));
      continue;
    }
    if (!entry.is_object()) fail("{}: __metadata__ is {}, expected an object of strings", path, json_shown(entry));
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail("{}: __metadata__ \"{}\" is {}, expected a string", path, key, json_shown(value));
      metadata_[key] = value.get<std::string>();
    }
  }
  // A tensor without elements has the address of its neighbour and comes before it. Names decide the rest.
  std::sort(tensors_.begin(), tensors_.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::tuple(a.data, a.bytes, std::string_view(a.name)) <
           std::tuple(b.data, b.bytes, std::string_view(b.name));
  });
  for (size_t i = 0; i < tensors_.size(); ++i) index_[tensors_[i].name] = i;
  const std::byte* end = data.data();
  for (const SafetensorsTensor& tensor : tensors_) {
    if (tensor.data < end) fail("{}: the data of tensor {} overlaps another tensor's", path, tensor.name);
    if (tensor.data > end)
      fail("{}: {} bytes before tensor {} belong to no tensor", path, tensor.data - end, tensor.name);
    end = tensor.data + tensor.bytes;
  }
  if (const auto rest = data.data() + data.size() - end; rest != 0) {
    fail("{}: {} bytes at its end belong to no tensor", path, rest);
  }
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

SafetensorsWriter::SafetensorsWriter(const fs::path& path, std::vector<Declaration> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : tensors_(std::move(tensors)), writer_(path) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t offset = 0;
  for (const Declaration& tensor : tensors_) {
    const std::string what = fmt::format("{}: tensor {}", path.string(), tensor.name);
    const size_t element_size = safetensors_element_size(tensor.dtype);
    MOE_CHECK(element_size != 0 && tensor.name != "__metadata__" && !header.contains(tensor.name));
    MOE_CHECK(std::all_of(tensor.shape.begin(), tensor.shape.end(), [](int64_t size) { return size >= 0; }));
    sizes_.push_back(bytes_of(tensor.shape, element_size, what));
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", std::vector<size_t>{offset, offset + sizes_.back()}}};
    offset += sizes_.back();
  }
  std::string text = json_text(header);
  text.resize((kLengthBytes + text.size() + kAlignment - 1) / kAlignment * kAlignment - kLengthBytes, ' ');
  const uint64_t length = text.size();
  put(&length, kLengthBytes);
  put(text.data(), text.size());
  skip_complete();
}

void SafetensorsWriter::write(std::string_view name, const void* data, size_t bytes) {
  if (bytes == 0) return;
  MOE_CHECK(current_ < tensors_.size() && tensors_[current_].name == name);
  MOE_CHECK(bytes <= sizes_[current_] - written_);
  put(data, bytes);
  written_ += bytes;
  skip_complete();
}

void SafetensorsWriter::put(const void* data, size_t bytes) {
  constexpr size_t kWorthAThread = size_t{1} << 20;
  if (bytes < kWorthAThread) {
    sum_.add(data, bytes);
    writer_.write(data, bytes);
    return;
  }
  std::future<void> summed = run_beside([&] { sum_.add(data, bytes); });  // while the system copies them
  writer_.write(data, bytes);
  summed.get();
}

void SafetensorsWriter::skip_complete() {
  while (current_ < tensors_.size() && written_ == sizes_[current_]) {
    ++current_;
    written_ = 0;
  }
}

void SafetensorsWriter::commit() {
  MOE_CHECK(current_ == tensors_.size());
  writer_.commit();
}

View view_of(const SafetensorsTensor& tensor) {
  if (tensor.shape.size() > kMaxRank) {
    fail("tensor {} has {} axes ({}), more than the {} that this program works with", tensor.name, tensor.shape.size(),
         tensor.text(), kMaxRank);
  }
  if (const StorageType* type = safetensors_type(tensor.dtype)) {
    const DType dtype = type->dtype;
    if (reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(type->alignment) != 0) {
      fail(
          "tensor {} begins at an address that is not a multiple of its element's {} bytes; save the file again with "
          "its "
          "wider types first",
          tensor.name, type->alignment);
    }
    void* data = const_cast<std::byte*>(tensor.data);
    switch (tensor.shape.size()) {
      case 0:
        return View(data, dtype, Shape{});
      case 1:
        return View(data, dtype, Shape{tensor.shape[0]});
      case 2:
        return View(data, dtype, Shape{tensor.shape[0], tensor.shape[1]});
      case 3:
        return View(data, dtype, Shape{tensor.shape[0], tensor.shape[1], tensor.shape[2]});
      default:
        return View(data, dtype, Shape{tensor.shape[0], tensor.shape[1], tensor.shape[2], tensor.shape[3]});
    }
  }
  fail("tensor {} has the type {}, which this program does not work with; convert it to F32", tensor.name,
       tensor.dtype);
}

}  // namespace moe
