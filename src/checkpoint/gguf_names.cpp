#include "checkpoint/gguf_names.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>

#include "base/error.h"
#include "checkpoint/family.h"

namespace moe {
namespace {

/// Divides the parameters of a model among tensors.
class Namer {
 public:
  Namer(const ModelConfig& config, const std::vector<Parameter>& table) : config_(config), table_(table) {}

  std::vector<GgufName> names() {
    for (parameter_ = 0; parameter_ < table_.size(); ++parameter_) {
      taken_ = 0;
      cut(table_[parameter_]);
      MOE_CHECK(taken_ == table_[parameter_].shape.elements());
    }
    return std::move(names_);
  }

 private:
  size_t add(const std::string& name, std::vector<int64_t> shape) {
    const Parameter& parameter = table_[parameter_];
    const std::string prefix = parameter.layer < 0 ? "" : fmt::format("blk.{}.", parameter.layer);
    names_.push_back({prefix + name, std::move(shape), parameter.kind, parameter.layer, {}});
    return names_.size() - 1;
  }
  /// The parameter's next elements as rows of a tensor.
  void take_rows(size_t tensor, int64_t row, int64_t rows, int64_t heads = 0) {
    names_[tensor].parts.push_back({parameter_, taken_, row, rows, heads});
    taken_ += rows * names_[tensor].width();
  }
  void take(const std::string& name, std::vector<int64_t> shape, int64_t heads = 0) {
    const size_t tensor = add(name, std::move(shape));
    take_rows(tensor, 0, names_[tensor].elements() / names_[tensor].width(), heads);
  }
  /// One tensor for each slice; {} in `name` stands for the slice.
  void take_slices(const Parameter& parameter, const char* name) {
    for (const ParameterSlice& slice : parameter.slices) {
      take(fmt::format(fmt::runtime(name), slice.name), {slice.rows, parameter.shape[1]});
    }
  }
  /// Of q and k, the rows of each head may be in another order.
  void take_attention(const Parameter& parameter) {
    std::array<int64_t, 3> heads{config_.num_attention_heads, config_.num_key_value_heads, 0};
    if (!family_of(config_).gguf_pairs) heads = {};
    MOE_CHECK(parameter.slices.size() == heads.size());
    for (size_t i = 0; i < heads.size(); ++i) {
      const ParameterSlice& slice = parameter.slices[i];
      take(fmt::format("attn_{}.weight", slice.name), {slice.rows, parameter.shape[1]}, heads[i]);
    }
  }
  /// One tensor for each slice, which holds all experts.
  void take_experts(const Parameter& parameter) {
    const int64_t experts = parameter.shape[parameter.shard_axis];
    std::vector<size_t> tensors;
    for (const ParameterSlice& slice : parameter.slices) {
      tensors.push_back(add(fmt::format("ffn_{}_exps.weight", slice.name), {experts, slice.rows, parameter.shape[2]}));
    }
    for (int64_t e = 0; e < experts; ++e) {
      for (size_t i = 0; i < tensors.size(); ++i) {
        const int64_t rows = parameter.slices[i].rows;
        take_rows(tensors[i], e * rows, rows);
      }
    }
  }

  void cut(const Parameter& parameter) {
    const auto whole = [&](const char* name) {
      std::vector<int64_t> shape;
      for (int axis = 0; axis < parameter.shape.rank(); ++axis) shape.push_back(parameter.shape[axis]);
      take(name, std::move(shape));
    };
    switch (parameter.role) {
      case ParameterRole::embedding:
        return whole("token_embd.weight");
      case ParameterRole::attention_norm:
        return whole("attn_norm.weight");
      case ParameterRole::attention_qkv:
        return take_attention(parameter);
      case ParameterRole::attention_qkv_bias:
        for (const ParameterSlice& slice : parameter.slices)
          take(fmt::format("attn_{}.bias", slice.name), {slice.rows});
        return;
      case ParameterRole::attention_q_norm:
        return whole("attn_q_norm.weight");
      case ParameterRole::attention_k_norm:
        return whole("attn_k_norm.weight");
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
        fail("GGUF files have no name for {}", parameter.name);
      case ParameterRole::experts_gate_up:
        return take_experts(parameter);
      case ParameterRole::experts_down:
        return whole("ffn_down_exps.weight");
      case ParameterRole::shared_gate_up:
        return take_slices(parameter, "ffn_{}_shexp.weight");
      case ParameterRole::shared_down:
        return whole("ffn_down_shexp.weight");
      case ParameterRole::shared_gate:
        return take("ffn_gate_inp_shexp.weight", {parameter.shape[1]});
      case ParameterRole::final_norm:
        return whole("output_norm.weight");
      case ParameterRole::head:
        return whole("output.weight");
    }
  }

  const ModelConfig& config_;
  const std::vector<Parameter>& table_;
  std::vector<GgufName> names_;
  size_t parameter_ = 0;
  int64_t taken_ = 0;  ///< elements of the parameter
};

struct HeadRow {
  int64_t first, in_head, half;
};
HeadRow head_row(const GgufPart& part, int64_t row) {
  const int64_t head = part.rows / part.heads;
  return {row - row % head, row % head, head / 2};
}

}  // namespace

int64_t GgufName::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

const GgufPart& GgufName::part(int64_t row) const {
  const auto after =
      std::upper_bound(parts.begin(), parts.end(), row, [](int64_t at, const GgufPart& part) { return at < part.row; });
  MOE_CHECK(after != parts.begin());
  return *std::prev(after);
}

int64_t gguf_row_to_ours(const GgufPart& part, int64_t row) {
  if (part.heads == 0) return row;
  const auto [first, in_head, half] = head_row(part, row);
  return first + in_head % 2 * half + in_head / 2;
}

int64_t our_row_to_gguf(const GgufPart& part, int64_t row) {
  if (part.heads == 0) return row;
  const auto [first, in_head, half] = head_row(part, row);
  return first + in_head % half * 2 + in_head / half;
}

std::vector<GgufName> gguf_names(const ModelConfig& config, const std::vector<Parameter>& table) {
  return Namer(config, table).names();
}

}  // namespace moe
