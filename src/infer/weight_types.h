#pragma once
/// The types in which a model's weights are stored on a device.

#include <string>
#include <vector>

#include "base/fs.h"
#include "checkpoint/adapter_set.h"
#include "checkpoint/weight_source.h"
#include "model/held_model.h"
#include "tensor/arena.h"

namespace moe {

/// What is asked for. Several threads may read it.
struct WeightTypes {
  /// Every weight becomes `all`, one of weight_types() (ops/type_set.h).
  WeightTypes(DType all) : type(all) {}  // NOLINT(google-explicit-constructor): a type alone says it all
  WeightTypes(DType others, bool keep) : type(others), keep_blocks(keep) {}

  DType type;
  /// Weights that a file stores in blocks keep its type; `type` is for the others.
  bool keep_blocks = false;
  /// If weights are in blocks: the type of activations, and of the other matrices of a file whose blocks are kept. It
  /// is bf16 for backends that multiply blocks with bf16 fastest. Norms and routers keep `type`.
  DType beside_blocks = DType::f32;
};

/// The type of each parameter of the source's table. A matrix whose parts (as q, k and v) have different block types in
/// the file becomes q8_0, which holds each of them nearly exactly; one of which a part has no blocks gets types.type.
std::vector<DType> stored_types(const WeightSource& source, const WeightTypes& types);

/// The type of activations beside weights of these types.
DType activations_of(const std::vector<DType>& stored, const WeightTypes& types);

/// "8.31 GiB of q4_0, 0.01 GiB of f32": what views of weights hold, largest first.
std::string weights_text(const std::vector<View>& views);

/// The types of all parameters on a device for a model folder or a GGUF file. `table` may have adapters. Beside
/// adapters, and in nf4, which is for adapters, embedding and head are not in blocks: they have the type
/// `beside_blocks`, as in training. Blocks of a file that are kept (keep_blocks) stay.
std::vector<DType> types_on_device(const fs::path& path, const std::vector<Parameter>& table, const WeightTypes& types);

/// Whether a parameter belongs to the routed experts of the first `layers` layers.
bool is_routed_expert_below(const Parameter& parameter, int64_t layers);

/// Pushes the views of a model's weights, in the order of the table: the routed experts of the first `host_layers`
/// layers on `host`, all others on `arena`. `host` may be null if there are none.
std::vector<View> push_weights(Arena& arena, const std::vector<Parameter>& table, const std::vector<DType>& types,
                               int64_t host_layers = 0, Arena* host = nullptr);

/// Whether any of these views stores weights in blocks.
bool any_in_blocks(const std::vector<View>& views);

struct WeightsSize {
  int64_t bytes = 0;       ///< on the device
  int64_t host_bytes = 0;  ///< of routed experts in the host's memory
  int64_t host_layers = 0;
  DType activations = DType::f32;
  bool in_blocks = false;       ///< any of them
  std::string text, host_text;  ///< weights_text() of both
};

/// True if the model has routed experts that so many ranks can divide among them, as many each.
bool divides_experts(const ModelConfig& config, int64_t ranks);

/// What LoadedModel stores for a model. The headers of its files are read once, by the constructor. Several threads may
/// use it.
class WeightSizes {
 public:
  WeightSizes(const fs::path& path, const WeightTypes& types, const std::vector<ChosenAdapter>& adapters = {});

  /// What a rank of this layout stores (divides_experts(), stage_layers()). Call it for the whole model.
  WeightSizes of_rank(const Layout& layout, int64_t rank) const;

  const ModelConfig& config() const { return held_.config; }  ///< of the whole model, with the adapters
  const HeldModel& held() const { return held_; }
  /// With the routed experts of the first `host_layers` layers in the host's memory.
  WeightsSize of(int64_t host_layers = 0) const;
  /// With the fewest layers, from `least` on, whose routed experts must be in the host's memory for the rest to fit
  /// into `bytes`; with all layers if even that is too little.
  WeightsSize fitting(int64_t bytes, int64_t least) const;

 private:
  WeightTypes types_;
  HeldModel held_;
  std::vector<Parameter> table_;
  std::vector<DType> stored_;
};

}  // namespace moe
