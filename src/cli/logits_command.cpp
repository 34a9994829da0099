#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/output_path.h"
#include "batch/batch.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/lora_option.h"
#include "cli/model_folder.h"
#include "cli/routing_option.h"
#include "cli/token_ids.h"
#include "cli/weights_option.h"
#include "formats/safetensors.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"
#include "tensor/finite.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Runs the model in MODEL_DIR on one sequence of T token ids. MODEL_DIR is a Hugging Face model folder (config.json and
model.safetensors; no tokenizer is needed) or a GGUF file. FILE becomes a safetensors file with one tensor, `logits`, F32 [T, V]: row t
holds the logits of the token that follows the first t + 1 ids. Rows are written while they are computed, so V * T
numbers need not fit into memory. FILE is complete or absent.

No BOS is added to the ids.

Examples:
  moe logits deepseek-moe-16b-base --tokens 100000,5726,4477 --out logits.safetensors
  printf 'Hello' | moe tokenizer encode --tokenizer runs/tokenizer > ids.txt
  moe logits runs/demo/latest --tokens-file ids.txt --out logits.safetensors --dtype bf16)";

struct LogitsFlags {
  std::string model;
  std::string tokens;
  std::string tokens_file;
  std::string out;
  std::string dtype;
  std::vector<ChosenAdapter> adapters;
  DeviceOptions device;
  RoutingSwitches switches;
};

std::string source_of(const LogitsFlags& flags) { return flags.tokens_file.empty() ? "--tokens" : flags.tokens_file; }

std::vector<int32_t> read_tokens(const LogitsFlags& flags) {
  if (flags.tokens.empty() && flags.tokens_file.empty()) {
    fail_usage("there is no token id: give --tokens 1,2,3 or --tokens-file FILE");
  }
  const std::string text = flags.tokens_file.empty() ? flags.tokens : read_file(flags.tokens_file);
  std::vector<int32_t> ids = parse_token_ids(text, source_of(flags));
  if (ids.empty()) fail("{}: there is no token id, expected at least one", source_of(flags));
  return ids;
}

void check_ids(const std::vector<int32_t>& ids, const LogitsFlags& flags, const ModelConfig& config) {
  for (size_t position = 0; position < ids.size(); ++position) {
    if (ids[position] >= 0 && ids[position] < config.vocab_size) continue;
    fail("{}: token {} at position {} is outside the model's vocabulary, expected ids from 0 to {} (vocab_size {})",
         source_of(flags), ids[position], position, config.vocab_size - 1, config.vocab_size);
  }
  if (static_cast<int64_t>(ids.size()) > config.max_position_embeddings) {
    log_warning("{} tokens are more than the model was made for (max_position_embeddings {})", ids.size(),
                config.max_position_embeddings);
  }
}

void write_logits(const LogitsFlags& flags) {
  const WeightTypes weights = parse_kept_weights(flags.dtype, flags.device);
  check_output_file(flags.out);
  const std::vector<int32_t> ids = read_tokens(flags);
  Compute compute = make_compute(flags.device);
  const AdaptedModel model = adapted_model(flags.model, flags.adapters);
  const LoadedModel loaded(model.folder, weights, *compute.device, flags.switches, model.adapters);
  const ModelConfig& config = loaded.config();
  check_ids(ids, flags, config);
  const auto count = static_cast<int64_t>(ids.size());
  Scorer scorer({loaded.model(), loaded.dtype(), *compute.device, *compute.backend}, count);
  const Batch batch = single_document(ids);
  SafetensorsWriter writer(flags.out, {{.name = "logits", .dtype = "F32", .shape = {count, config.vocab_size}}});
  scorer.logits(batch, [&](int64_t, int64_t rows, const float* values) {
    if (first_not_finite(DType::f32, values, rows * config.vocab_size) >= 0) scorer.fail_not_finite(batch);
    writer.write("logits", values, static_cast<size_t>(rows * config.vocab_size) * sizeof(float));
  });
  writer.commit();
  log_info("{}: logits F32 [{}, {}]", flags.out, count, config.vocab_size);
}

}  // namespace

void add_logits_command(CLI::App& app) {
  auto flags = std::make_shared<LogitsFlags>();
  CLI::App* command = app.add_subcommand("logits", "Writes a model's logits for given token ids to a file");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "folder with config.json and model.safetensors")->required();
  CLI::Option* tokens =
      command->add_option("--tokens", flags->tokens, "token ids separated by commas or blanks")->type_name("IDS");
  command->add_option("--tokens-file", flags->tokens_file, "file with token ids, as `moe tokenizer encode` prints them")
      ->type_name("FILE")
      ->excludes(tokens);
  command->add_option("--out", flags->out, "safetensors file to write")->required()->type_name("FILE");
  add_lora_option(*command, flags->adapters);
  add_kept_weights_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  add_routing_options(*command, flags->switches);
  command->callback([flags] { write_logits(*flags); });
}

}  // namespace moe
