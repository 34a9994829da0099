#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/random.h"
#include "base/units.h"
#include "batch/batch.h"
#include "checkpoint/open_model.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/exit_status.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/token_ids.h"
#include "formats/safetensors.h"
#include "infer/loaded_model.h"
#include "infer/scorer.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Runs two models on the same tokens and compares what they compute, layer by layer. A is a model (a folder, a GGUF file,
or a run). B is another one, or a safetensors file of references with the tensors tokens (integers), hidden.0 (the
embedding), hidden.1 (after the first layer) and so on, and logits. All that it has are compared, and other tensors are
refused.

The difference is the root of the mean square, relative to that of B. It may be at most --tolerance; the default follows
from the coarsest type that the models, or the references, are stored in: f32 1e-4, f16 1e-2, bf16 and q8_0 5e-2, q5 and
q6 0.2, q4 0.4. The status is 1 if a tensor differs by more, and the first of them is named.

Both models compute in f32 (--dtype: another type of weights). One is in memory at a time.

Examples:
  moe verify deepseek-moe-16b deepseek-moe-16b.Q8_0.gguf
  moe verify runs/demo references.safetensors --tolerance 1e-5)";

struct VerifyFlags {
  std::string model, other;
  std::optional<std::string> tokens;
  std::string dtype = "f32";
  double tolerance = 0;
  DeviceOptions device;
};

/// What a model computes, or a file says it computes. Tensors are by name, in their order.
struct Trace {
  std::vector<std::pair<std::string, std::vector<float>>> tensors;
  double tolerance = 0;  ///< that the stored types ask for

  const std::vector<float>* find(const std::string& name) const {
    const auto found =
        std::find_if(tensors.begin(), tensors.end(), [&](const auto& tensor) { return tensor.first == name; });
    return found == tensors.end() ? nullptr : &found->second;
  }
};

/// By the rounding of the types, with room for what layers make of it.
double tolerance_of(const std::string& type) {
  const auto is = [&](const char* part) { return type.find(part) != std::string::npos; };
  if (is("Q4")) return 0.4;
  if (is("Q5") || is("Q6")) return 0.2;
  if (is("Q8") || is("BF16")) return 5e-2;
  return is("F16") ? 1e-2 : 1e-4;
}

std::string shown(int64_t layer) { return fmt::format("hidden.{}", layer); }

Trace run(const std::string& path, const std::vector<int32_t>& ids, DType weights, Compute& compute) {
  Trace trace;
  for (const StoredTensor& tensor : open_weights(path)->tensors()) {
    trace.tolerance = std::max(trace.tolerance, tolerance_of(tensor.type));
  }
  show_status("reading the weights of " + path);
  const LoadedModel loaded(path, weights, *compute.device, {});
  const ModelConfig& config = loaded.config();
  for (const int32_t id : ids) {
    if (id >= 0 && id < config.vocab_size) continue;
    fail("token {} is outside the vocabulary of {}, expected ids from 0 to {}", id, path, config.vocab_size - 1);
  }
  const auto count = static_cast<int64_t>(ids.size());
  show_status("computing with " + path);
  Scorer scorer({loaded.model(), loaded.dtype(), *compute.device, *compute.backend}, count);
  std::vector<float> logits;
  scorer.trace(
      single_document(ids),
      [&](int64_t layer, const std::vector<float>& values) { trace.tensors.emplace_back(shown(layer), values); },
      [&](int64_t, int64_t rows, const float* values) {
        logits.insert(logits.end(), values, values + rows * config.vocab_size);
      });
  trace.tensors.emplace_back("logits", std::move(logits));
  clear_status();
  return trace;
}

bool is_references(const std::string& path) { return fs::path(path).extension() == ".safetensors"; }

/// The tensors of references for a model with so many layers, in the order of comparison.
std::vector<std::string> reference_names(int64_t layers) {
  std::vector<std::string> names;
  for (int64_t layer = 0; layer <= layers; ++layer) names.push_back(shown(layer));
  names.emplace_back("logits");
  return names;
}

/// Every tensor of the file but its tokens is one of `names`.
void refuse_other_tensors(const SafetensorsFile& file, const std::vector<std::string>& names) {
  for (const SafetensorsTensor& tensor : file.tensors()) {
    if (tensor.name == "tokens" || std::find(names.begin(), names.end(), tensor.name) != names.end()) continue;
    fail("{}: {} is not a tensor that is compared, expected tokens, hidden.0 to {} and logits", file.path().string(),
         tensor.name, names[names.size() - 2]);
  }
}

Trace references_of(const SafetensorsFile& file, int64_t layers) {
  Trace trace;
  const std::vector<std::string> names = reference_names(layers);
  refuse_other_tensors(file, names);
  for (const std::string& name : names) {
    const SafetensorsTensor* const tensor = file.find(name);
    if (tensor == nullptr) continue;
    const StorageType* const type = safetensors_type(tensor->dtype);
    if (type == nullptr || !is_float(type->dtype)) {
      fail("{}: {} is {}, expected floats", file.path().string(), name, tensor->text());
    }
    std::vector<float> values(static_cast<size_t>(tensor->elements()));
    type->to_floats(tensor->data, values.data(), tensor->elements());
    trace.tensors.emplace_back(name, std::move(values));
    trace.tolerance = std::max(trace.tolerance, tolerance_of(tensor->dtype));
  }
  if (trace.tensors.empty()) fail("{}: it has neither hidden.0 nor logits to compare with", file.path().string());
  return trace;
}

std::vector<int32_t> tokens_of(const SafetensorsFile& file) {
  const SafetensorsTensor* const tensor = file.find("tokens");
  if (tensor == nullptr || (tensor->dtype != "I32" && tensor->dtype != "I64")) {
    fail("{}: the tensor tokens (I32 or I64) is missing; it has the ids that the references were computed for",
         file.path().string());
  }
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tensor->elements(); ++i) {
    int64_t id = 0;
    if (tensor->dtype == "I64") {
      std::memcpy(&id, tensor->data + i * 8, 8);
    } else {
      int32_t narrow = 0;
      std::memcpy(&narrow, tensor->data + i * 4, 4);
      id = narrow;
    }
    ids.push_back(static_cast<int32_t>(std::clamp<int64_t>(id, INT32_MIN, INT32_MAX)));
  }
  return ids;
}

/// Ids that both vocabularies have, the same in every run.
std::vector<int32_t> drawn_tokens(const VerifyFlags& flags) {
  constexpr int64_t kTokens = 64;
  const ModelConfig a = read_model_config(flags.model), b = read_model_config(flags.other);
  const int64_t below = std::min(a.vocab_size, b.vocab_size);
  const Random random(1, hash_name("verify"));
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < std::min({kTokens, a.max_position_embeddings, b.max_position_embeddings}); ++i) {
    ids.push_back(static_cast<int32_t>(random.bits(static_cast<uint64_t>(i)) % static_cast<uint64_t>(below)));
  }
  return ids;
}

/// Root of the mean square of a - b, relative to that of b; infinite if numbers are not finite.
double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, values = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    error += (x - y) * (x - y);
    values += y * y;
  }
  if (!std::isfinite(error) || !std::isfinite(values)) return INFINITY;
  return error == 0 ? 0 : std::sqrt(error / values);
}

/// Prints all differences; the name of the first tensor beyond the tolerance, or nothing.
std::string compare(const Trace& a, const Trace& b, double tolerance) {
  std::string first;
  print_output("{:<12} {:>12}\n", "tensor", "difference");
  for (const auto& [name, expected] : b.tensors) {
    const std::vector<float>* const found = a.find(name);
    if (found == nullptr || found->size() != expected.size()) {
      fail("{} has {} numbers in one and {} in the other; the models do not have the same sizes", name,
           found == nullptr ? 0 : found->size(), expected.size());
    }
    const double by = difference(*found, expected);
    const bool beyond = !(by <= tolerance);
    print_output("{:<12} {:>12.2e}{}\n", name, by, beyond ? "  beyond the tolerance" : "");
    if (beyond && first.empty()) first = name;
  }
  return first;
}

void verify(const VerifyFlags& flags) {
  const DType weights = parse_weights_option(flags.dtype);
  std::optional<SafetensorsFile> file;
  if (is_references(flags.other)) file.emplace(flags.other);
  if (file && flags.tokens) fail_usage("--tokens: the references have tokens of their own");
  const std::vector<int32_t> ids = file            ? tokens_of(*file)
                                   : !flags.tokens ? drawn_tokens(flags)
                                                   : parse_token_ids(*flags.tokens, "--tokens");
  if (ids.empty()) fail_usage("there is no token id to compare the models on");
  Compute compute = make_compute(flags.device);
  const Trace b = file ? references_of(*file, read_model_config(flags.model).num_hidden_layers)
                       : run(flags.other, ids, weights, compute);
  const Trace a = run(flags.model, ids, weights, compute);
  const double tolerance = flags.tolerance > 0 ? flags.tolerance : std::max(a.tolerance, b.tolerance);
  const std::string first = compare(a, b, tolerance);
  if (first.empty()) {
    log_info("all tensors agree to within {:.1e} on {}", tolerance, counted(ids.size(), "token"));
    return;
  }
  log_info("{} is the first tensor that differs by more than {:.1e}", first, tolerance);
  exit_with(1);
}

}  // namespace

void add_verify_command(CLI::App& app) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* command = app.add_subcommand("verify", "Compares what two models compute, layer by layer");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "A, the model's folder")->required();
  command
      ->add_option_function<std::string>(
          "B", [flags](const std::string& path) { flags->other = is_references(path) ? path : model_folder(path); },
          "another model, or a safetensors file of references")
      ->required()
      ->type_name("");
  command->add_option("--tokens", flags->tokens, "token ids separated by commas or blanks (default: 64 drawn ones)")
      ->type_name("IDS");
  add_number(*command, "--tolerance", flags->tolerance, {.least = 0, .most = 1e9},
             "largest relative difference; 0: by the stored types");
  add_weights_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  command->callback([flags] { verify(*flags); });
}

}  // namespace moe
