#include "checkpoint/gguf_weights.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/hf_config.h"

namespace moe {
namespace {

ModelConfig config_of(const std::vector<GgufFile>& files) {
  Json json = gguf_hf_config(files.front());
  bool head = false;
  for (const GgufFile& file : files) head = head || file.find("output.weight") != nullptr;
  json["tie_word_embeddings"] = !head;
  return parse_hf_config(json, files.front().path().string());
}

}  // namespace

/// Finds the tensors of one model and cuts its parameters into pieces.
class GgufPieces {
 public:
  GgufPieces(const std::vector<GgufFile>& files, const ModelConfig& config) : files_(files), config_(config) {}

  std::vector<GgufWeights::Piece> of(const Parameter& parameter) {
    pieces_.clear();
    elements_ = 0;
    prefix_ = parameter.layer < 0 ? "" : fmt::format("blk.{}.", parameter.layer);
    cut(parameter);
    MOE_CHECK(elements_ == parameter.shape.elements());
    return pieces_;
  }

  void refuse_others() const {
    for (const GgufFile& file : files_) {
      for (const GgufTensor& tensor : file.tensors()) {
        if (taken_.count(tensor.name) != 0) continue;
        fail("{}: {} ({}) is not a tensor of the model that the metadata describes; check its sizes",
             file.path().string(), tensor.name, tensor.text());
      }
    }
  }

 private:
  static std::vector<int64_t> shape_of(const Parameter& parameter) {
    std::vector<int64_t> shape;
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) shape.push_back(parameter.shape[axis]);
    return shape;
  }

  const GgufTensor& find(const std::string& name, const std::vector<int64_t>& shape) {
    taken_.insert(name);
    for (const GgufFile& file : files_) {
      const GgufTensor* const tensor = file.find(name);
      if (tensor == nullptr) continue;
      if (tensor->shape != shape) {
        fail("{}: {} is {}, expected [{}] from the metadata", file.path().string(), name, tensor->text(),
             fmt::join(shape, ", "));
      }
      if (tensor->type == nullptr || !is_float(tensor->type->dtype)) {
        fail("{}: {} is {}, a type that this program does not compute with; write the file in another type",
             file.path().string(), name, tensor->text());
      }
      return *tensor;
    }
    fail("{}: the tensor {} [{}] is missing; the metadata asks for it", files_.front().path().string(), name,
         fmt::join(shape, ", "));
  }

  /// `rows` rows of a tensor from `row` on as the parameter's next elements.
  void take_rows(const GgufTensor& tensor, int64_t row, int64_t rows, int64_t heads = 0) {
    const int64_t width = tensor.shape.back();
    pieces_.push_back({elements_, elements_ + rows * width, &tensor, row, width, heads});
    elements_ += rows * width;
  }
  void take(const std::string& name, const std::vector<int64_t>& shape, int64_t heads = 0) {
    const GgufTensor& tensor = find(prefix_ + name, shape);
    take_rows(tensor, 0, tensor.elements() / tensor.shape.back(), heads);
  }
  /// One tensor for each slice; {} in `name` stands for the slice.
  void take_slices(const Parameter& parameter, const char* name) {
    for (const ParameterSlice& slice : parameter.slices) {
      take(fmt::format(fmt::runtime(name), slice.name), {slice.rows, parameter.shape[1]});
    }
  }
  /// Of q and k, the rows of each head are in another order.
  void take_attention(const Parameter& parameter) {
    const std::array<int64_t, 3> heads{config_.num_attention_heads, config_.num_key_value_heads, 0};
    MOE_CHECK(parameter.slices.size() == heads.size());
    for (size_t i = 0; i < heads.size(); ++i) {
      const ParameterSlice& slice = parameter.slices[i];
      take(fmt::format("attn_{}.weight", slice.name), {slice.rows, parameter.shape[1]}, heads[i]);
    }
  }
  /// One tensor for each slice, which holds all experts.
  void take_experts(const Parameter& parameter) {
    const int64_t experts = parameter.shape[parameter.shard_axis];
    std::vector<const GgufTensor*> tensors;
    for (const ParameterSlice& slice : parameter.slices) {
      tensors.push_back(
          &find(fmt::format("{}ffn_{}_exps.weight", prefix_, slice.name), {experts, slice.rows, parameter.shape[2]}));
    }
    for (int64_t e = 0; e < experts; ++e) {
      for (size_t i = 0; i < tensors.size(); ++i) {
        const int64_t rows = parameter.slices[i].rows;
        take_rows(*tensors[i], e * rows, rows);
      }
    }
  }

  void cut(const Parameter& parameter) {
    const auto whole = [&](const char* name) { take(name, shape_of(parameter)); };
    switch (parameter.role) {
      case ParameterRole::embedding:
        return whole("token_embd.weight");
      case ParameterRole::attention_norm:
        return whole("attn_norm.weight");
      case ParameterRole::attention_qkv:
        return take_attention(parameter);
      case ParameterRole::attention_output:
        return whole("attn_output.weight");
      case ParameterRole::ffn_norm:
        return whole("ffn_norm.weight");
      case ParameterRole::ffn_gate_up:
        return take_slices(parameter, "ffn_{}.weight");
      case ParameterRole::ffn_down:
        return whole("ffn_down.weight");
      case ParameterRole::router:
        return whole("ffn_gate_inp.weight");
      case ParameterRole::router_own:
        fail("{}: {} has no name in files of this architecture", files_.front().path().string(), parameter.name);
      case ParameterRole::experts_gate_up:
        return take_experts(parameter);
      case ParameterRole::experts_down:
        return whole("ffn_down_exps.weight");
      case ParameterRole::shared_gate_up:
        return take_slices(parameter, "ffn_{}_shexp.weight");
      case ParameterRole::shared_down:
        return whole("ffn_down_shexp.weight");
      case ParameterRole::final_norm:
        return whole("output_norm.weight");
      case ParameterRole::head:
        return whole("output.weight");
    }
  }

  const std::vector<GgufFile>& files_;
  const ModelConfig& config_;
  std::string prefix_;
  std::set<std::string> taken_;
  std::vector<GgufWeights::Piece> pieces_;
  int64_t elements_ = 0;
};

GgufWeights::GgufWeights(const fs::path& path) : GgufWeights(open_gguf(path)) {}

GgufWeights::GgufWeights(std::vector<GgufFile> files) : WeightSource(config_of(files)), files_(std::move(files)) {
  GgufPieces pieces(files_, config());
  for (const Parameter& parameter : table()) pieces_.push_back(pieces.of(parameter));
  pieces.refuse_others();
}

DType GgufWeights::stored(size_t parameter, int64_t element) const {
  return piece_with(pieces_[parameter], element).tensor->type->dtype;
}

void GgufWeights::read_row(const Piece& piece, int64_t row, int64_t column, int64_t count, float* values) const {
  if (piece.heads > 0) {
    const int64_t head = (piece.end - piece.begin) / piece.width / piece.heads, half = head / 2;
    const int64_t in_head = row % head;
    row = row - in_head + in_head % half * 2 + in_head / half;
  }
  const StorageType& type = *piece.tensor->type;
  const int64_t first = column / type.block * type.block, last = column + count;
  const std::byte* const data = piece.tensor->data + bytes_of(type.dtype, (piece.row + row) * piece.width + first);
  if (first == column && last % type.block == 0) return type.to_floats(data, values, count);
  std::vector<float> blocks(static_cast<size_t>((last - first + type.block - 1) / type.block * type.block));
  type.to_floats(data, blocks.data(), static_cast<int64_t>(blocks.size()));
  std::copy_n(blocks.begin() + (column - first), count, values);
}

void GgufWeights::read(size_t parameter, int64_t begin, int64_t count, float* values) const {
  for (int64_t at = begin; at < begin + count;) {
    const Piece& piece = piece_with(pieces_[parameter], at);
    const int64_t row = (at - piece.begin) / piece.width, column = (at - piece.begin) % piece.width;
    const int64_t here = std::min(piece.width - column, begin + count - at);
    read_row(piece, row, column, here, values + (at - begin));
    at += here;
  }
}

void GgufWeights::read(size_t, int64_t, int64_t, int32_t*) const { MOE_CHECK(!"these models have no tables"); }

bool is_gguf(const fs::path& path) {
  std::error_code ignored;
  return path.extension() == ".gguf" && !fs::is_directory(path, ignored);
}

std::unique_ptr<WeightSource> open_weights(const fs::path& path) {
  if (is_gguf(path)) return std::make_unique<GgufWeights>(path);
  return std::make_unique<FolderWeights>(path);
}

void load_weights(const WeightSource& source, const std::vector<View>& views, Device& device) {
  constexpr int64_t kAtOnce = int64_t{1} << 18;
  std::vector<float> values;
  std::vector<char> bytes;
  for (size_t i = 0; i < views.size(); ++i) {
    const View& view = views[i];
    for (int64_t begin = 0, all = view.elements(); begin < all; begin += kAtOnce) {
      const int64_t count = std::min(kAtOnce, all - begin);
      bytes.resize(static_cast<size_t>(bytes_of(view.dtype, count)));
      if (is_float(view.dtype)) {
        values.resize(static_cast<size_t>(count));
        source.read(i, begin, count, values.data());
        storage(view.dtype).from_floats(values.data(), bytes.data(), count);
      } else {
        source.read(i, begin, count, reinterpret_cast<int32_t*>(bytes.data()));
      }
      device.upload(static_cast<char*>(view.data) + bytes_of(view.dtype, begin), bytes.data(), bytes.size());
    }
  }
}

}  // namespace moe
