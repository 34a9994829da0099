// What tests/gguf/compare_gguf.py asks this program's GGUF code to do:
//   gguf_tool quantize TYPE FLOATS OUT     f32 numbers to blocks
//   gguf_tool dequantize TYPE BLOCKS OUT   and back
//   gguf_tool list FILE                    a file's metadata and tensors as JSON
//   gguf_tool rewrite FILE OUT             a file (or all of a split one) read and written again

#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "base/error.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/json.h"

namespace moe {
namespace {

DType type_named(const std::string& text) {
  for (const StorageType& type : kStorageTypes) {
    if (text == type.name) return type.dtype;
  }
  fail("{}: there is no such type", text);
}

void convert(bool to_blocks, const std::string& type_text, const fs::path& from, const fs::path& to) {
  const StorageType& type = storage(type_named(type_text));
  const std::string in = read_file(from);
  std::string out;
  if (to_blocks) {
    std::vector<float> floats(in.size() / sizeof(float));
    std::memcpy(floats.data(), in.data(), in.size());
    out.resize(static_cast<size_t>(bytes_of(type.dtype, static_cast<int64_t>(floats.size()))));
    type.from_floats(floats.data(), out.data(), static_cast<int64_t>(floats.size()));
  } else {
    std::vector<float> floats(in.size() / static_cast<size_t>(type.bytes) * static_cast<size_t>(type.block));
    type.to_floats(in.data(), floats.data(), static_cast<int64_t>(floats.size()));
    out.assign(reinterpret_cast<const char*>(floats.data()), floats.size() * sizeof(float));
  }
  write_file(to, out);
}

Json to_json(const GgufValue& value) {
  if (const auto* array = std::get_if<GgufArray>(&value.value)) {
    Json list = Json::array();
    for (const GgufValue& one : array->values) list.push_back(to_json(one));
    return list;
  }
  return std::visit(
      [](const auto& x) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(x)>, GgufArray>) {
          return nullptr;
        } else {
          return x;
        }
      },
      value.value);
}

void list(const fs::path& path) {
  const GgufFile file(path);
  Json json{{"metadata", Json::array()}, {"tensors", Json::array()}};
  for (const GgufEntry& entry : file.metadata()) {
    json["metadata"].push_back({entry.key, name(entry.value.kind), to_json(entry.value)});
  }
  for (const GgufTensor& tensor : file.tensors()) {
    uint64_t sum = 0;
    for (size_t i = 0; i < tensor.bytes; ++i) sum = sum * 31 + static_cast<uint8_t>(tensor.data[i]);
    json["tensors"].push_back({tensor.name, tensor.type_name, tensor.shape, tensor.bytes, sum});
  }
  std::puts(json_text(json).c_str());
}

void rewrite(const fs::path& from, const fs::path& to) {
  const std::vector<GgufFile> files = open_gguf(from);
  std::vector<GgufWriter::Declaration> declarations;
  std::vector<GgufEntry> metadata;
  for (const GgufEntry& entry : files.front().metadata()) {
    if (files.size() == 1 || !entry.key.starts_with("split.")) metadata.push_back(entry);
  }
  for (const GgufFile& file : files) {
    for (const GgufTensor& tensor : file.tensors()) {
      if (tensor.type == nullptr) fail("{}: cannot be written", tensor.text());
      declarations.push_back({tensor.name, tensor.type->dtype, tensor.shape});
    }
  }
  GgufWriter writer(to, metadata, declarations);
  for (const GgufFile& file : files) {
    for (const GgufTensor& tensor : file.tensors()) {
      for (size_t begin = 0; begin < tensor.bytes; begin += 1000) {
        writer.write(tensor.name, tensor.data + begin, std::min<size_t>(1000, tensor.bytes - begin));
      }
    }
  }
  writer.commit();
}

}  // namespace
}  // namespace moe

int main(int count, char** words) {
  const std::vector<std::string> args(words + 1, words + count);
  try {
    if (args.size() == 4 && args[0] == "quantize") return moe::convert(true, args[1], args[2], args[3]), 0;
    if (args.size() == 4 && args[0] == "dequantize") return moe::convert(false, args[1], args[2], args[3]), 0;
    if (args.size() == 2 && args[0] == "list") return moe::list(args[1]), 0;
    if (args.size() == 3 && args[0] == "rewrite") return moe::rewrite(args[1], args[2]), 0;
    std::fputs("gguf_tool: see the first lines of its source\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return 1;
}
