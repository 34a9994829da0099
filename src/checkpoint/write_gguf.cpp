#include "checkpoint/write_gguf.h"

#include <algorithm>

#include "base/output_path.h"
#include "base/words.h"
#include "checkpoint/file_types.h"
#include "formats/gguf_writer.h"

namespace moe {
namespace {

DType plain_type(const WeightSource& source, const GgufName& tensor, const GgufOptions& options) {
  if (is_f32_in_gguf(tensor)) return DType::f32;
  const GgufPart& part = tensor.parts.front();
  const DType stored = source.stored(part.parameter, part.begin);
  const DType dtype = options.dtype.value_or(is_plain(stored) ? stored : DType::f32);
  if (!plain_gguf_types().has(dtype)) {
    fail("{} is {}, and a GGUF file has no such type; give --dtype {}", tensor.name, name(dtype),
         alternatives(plain_gguf_types().names()));
  }
  return dtype;
}

/// llama.cpp's number for a file of such matrices; nothing: it has none.
std::optional<uint32_t> file_type(const GgufOptions& options, DType matrices) {
  if (options.quantization != nullptr) return options.quantization->number;
  if (matrices == DType::f32) return 0;
  if (matrices == DType::f16) return 1;
  if (matrices == DType::bf16) return 32;
  return std::nullopt;
}

/// Unless the tokenizer has named one.
void add_token_id(const char* key, const std::optional<int64_t>& id, std::vector<GgufEntry>& metadata) {
  const bool named = std::any_of(metadata.begin(), metadata.end(), [&](const auto& entry) { return entry.key == key; });
  if (id && !named) metadata.push_back({key, GgufValue::u32(static_cast<uint32_t>(*id))});
}

/// The place of element `at` of the tensor in its source.
StoredElement place_of(const WeightSource& source, const GgufName& tensor, int64_t at) {
  const int64_t width = tensor.width(), row = at / width;
  const GgufPart& part = tensor.part(row);
  return source.place(part.parameter, part.begin + gguf_row_to_ours(part, row - part.row) * width + at % width);
}

/// Elements [begin, begin + count) of the tensor.
void read_tensor(const WeightSource& source, const GgufName& tensor, int64_t begin, int64_t count, float* values) {
  const int64_t width = tensor.width();
  for (int64_t at = begin; at < begin + count;) {
    const int64_t row = at / width, column = at % width;
    const GgufPart& part = tensor.part(row);
    const int64_t end = part.heads > 0 ? (row + 1) * width : (part.row + part.rows) * width;
    const int64_t here = std::min(end, begin + count) - at;
    const int64_t ours = gguf_row_to_ours(part, row - part.row);
    source.read(part.parameter, part.begin + ours * width + column, here, values + (at - begin));
    at += here;
  }
}

}  // namespace

std::vector<WrittenKind> write_gguf(const fs::path& path, const WeightSource& source, const GgufOptions& options,
                                    ThreadPool& pool) {
  const ModelConfig& config = source.config();
  std::vector<GgufEntry> metadata = gguf_metadata(config);
  const std::vector<GgufName> names = gguf_names(config, source.table());
  std::vector<GgufWriter::Declaration> declarations;
  int64_t all = 0;
  DType matrices = DType::f32;
  for (const GgufName& tensor : names) {
    const DType dtype = options.quantization != nullptr ? gguf_type_of(*options.quantization, tensor, config)
                                                        : plain_type(source, tensor, options);
    if (tensor.kind == ParameterKind::attention) matrices = dtype;
    declarations.push_back({tensor.name, dtype, tensor.shape});
    all += bytes_of(dtype, tensor.elements());
  }
  metadata.push_back({"general.type", GgufValue::text("model")});
  if (!options.name.empty()) metadata.push_back({"general.name", GgufValue::text(options.name)});
  if (!options.license.empty()) metadata.push_back({"general.license", GgufValue::text(options.license)});
  if (const auto type = file_type(options, matrices)) metadata.push_back({"general.file_type", GgufValue::u32(*type)});
  metadata.push_back({"general.quantization_version", GgufValue::u32(2)});
  metadata.insert(metadata.end(), options.tokenizer.begin(), options.tokenizer.end());
  if (options.tokenizer.empty()) metadata.push_back({"tokenizer.ggml.model", GgufValue::text("none")});
  add_token_id("tokenizer.ggml.bos_token_id", config.bos_token_id, metadata);
  add_token_id("tokenizer.ggml.eos_token_id", config.eos_token_id, metadata);

  check_disk_space(path, all);
  GgufWriter writer(path, metadata, declarations);
  SliceWriter slices(pool, all, options.progress);
  for (size_t i = 0; i < names.size(); ++i) {
    const GgufName& tensor = names[i];
    slices.write(
        {.kind = tensor.kind,
         .dtype = declarations[i].dtype,
         .elements = tensor.elements(),
         .source = [&](int64_t at) { return place_of(source, tensor, at); }},
        [&](const char* data, size_t bytes) { writer.write(tensor.name, data, bytes); },
        [&](int64_t begin, int64_t count, float* values) { read_tensor(source, tensor, begin, count, values); });
  }
  writer.commit();
  return slices.kinds();
}

}  // namespace moe
