#pragma once
/// The description of one parameter of a block: all that other layers ask about it. Each parameter is described once,
/// together with the view that holds it (model/parameters.h). A router describes its own (nn/routers/method.h).

#include <functional>
#include <string>
#include <vector>

#include "tensor/view.h"

namespace moe {

/// The kind of a parameter, for counts, printed tables and the optimiser.
enum class ParameterKind {
  embedding,
  head,
  norm,
  attention,
  dense_ffn,
  router,
  light_router,  ///< StableMoE's light router, which learns only in the first stage
  router_state,  ///< a bias or a table: part of the model, but without a gradient
  routed_experts,
  shared_experts
};
const char* name(ParameterKind kind);

/// The place of a parameter in the model. Model folders and GGUF files name their tensors by it.
enum class ParameterRole {
  embedding,
  attention_norm,
  attention_qkv,
  attention_qkv_bias,
  attention_q_norm,
  attention_k_norm,
  attention_output,
  ffn_norm,
  ffn_gate_up,
  ffn_down,
  router,      ///< the projection to scores
  router_own,  ///< of one routing method alone: ParameterInfo::file_name is its name
  experts_gate_up,
  experts_down,
  shared_gate_up,
  shared_down,
  shared_gate,
  final_norm,
  head
};

enum class InitialValue {
  normal,  ///< normal draws
  zero,
  one,
  table,   ///< experts of token ids: nn/routers/hash_table.h
  uniform  ///< uniform in +-1 / sqrt(columns): what adapters begin with (Kaiming's, as PEFT draws them)
};

/// What a parameter is to the adapter of a linear map (nn/adapter.h).
enum class AdapterPart { none, a, b };

/// The type that a parameter is stored in, if the model's weights have the type T.
enum class ParameterType {
  weight,  ///< T, or another block type if a row is not whole blocks
  exact,   ///< T, but f32 if T is a block type
  stat,    ///< stat_dtype(T)
  index    ///< i32
};

/// Some rows of a matrix that are a matrix of their own: q, k and v, or gate and up.
struct ParameterSlice {
  const char* name;
  int64_t rows;
};

struct ParameterInfo {
  std::string name;  ///< within its layer, for instance "experts.gate_up"
  ParameterRole role = {};
  ParameterKind kind = {};
  Shape shape;
  InitialValue start = InitialValue::normal;
  ParameterType type = ParameterType::weight;
  bool learned = true;  ///< it has a gradient
  bool decays = true;   ///< weight decay applies to it
  /// Its gradient is set to 0 at the beginning of a step and then added to. Other gradients are overwritten first.
  bool gradient_is_added = false;
  /// The axis of independent matrices, one per expert; -1: there is one matrix. Several devices would divide this axis.
  int shard_axis = -1;
  std::vector<ParameterSlice> slices = {};  ///< all rows of each matrix, in order; empty: the matrix is one
  const char* file_name = nullptr;          ///< of `router_own`, after "model.layers.I."
  AdapterPart adapter = AdapterPart::none;  ///< of an adapter: role and kind are those of the adapted parameter

  bool is_matrix() const { return shape.rank() >= 2; }
  /// True for embedding and head, whose rows belong to tokens.
  bool is_by_token() const { return role == ParameterRole::embedding || role == ParameterRole::head; }
};

/// Receives a parameter and the view of the block's weights that holds it.
using AddParameter = std::function<void(ParameterInfo info, View& view)>;

}  // namespace moe
