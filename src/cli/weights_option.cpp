#include "cli/weights_option.h"

#include "base/error.h"
#include "base/words.h"
#include "checkpoint/gguf_types_of.h"
#include "ops/type_set.h"

namespace moe {
namespace {

std::vector<std::string> mixture_names() {
  std::vector<std::string> names;
  for (const Quantization& one : quantizations()) {
    if (one.mixed) names.emplace_back(one.name);
  }
  return names;
}

}  // namespace

void add_kept_weights_option(CLI::App& command, std::string& dtype) {
  add_weights_option(command, dtype);
  CLI::Option* const option = command.get_option("--dtype");
  option->description(
      option->get_description() +
      "; without it f32, and the blocks of a GGUF file as they are. Beside blocks, activations are f32 on the CPU and "
      "bf16 on a GPU");
}

WeightTypes parse_kept_weights(const std::string& dtype, const DeviceOptions& device) {
  WeightTypes types{DType::f32, true};
  if (!dtype.empty()) types = parse_weights_option(dtype);
  if (device_kind(device) == DeviceKind::cuda) types.beside_blocks = DType::bf16;
  return types;
}

void add_blocks_option(CLI::App& command, std::string& quant) {
  command
      .add_option("--quant", quant,
                  "storage of the weights: all in blocks of one type, " + named_block_types().text() +
                      ", or as a GGUF file of a mixture has them, " + alternatives(mixture_names()))
      ->type_name("TYPE");
}

std::optional<DType> parse_blocks_option(const std::string& quant) {
  if (quant.empty()) return std::nullopt;
  for (const StorageType& type : kStorageTypes) {
    if (named_block_types().has(type.dtype) && quant == type.name) return type.dtype;
  }
  std::vector<std::string> names = named_block_types().names();
  for (const std::string& name : mixture_names()) names.push_back(name);
  fail_usage("--quant {}: expected {}", quant, alternatives(names));
}

}  // namespace moe
