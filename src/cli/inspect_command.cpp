#include <map>
#include <memory>
#include <set>

#include "base/error.h"
#include "base/output.h"
#include "base/units.h"
#include "checkpoint/exports.h"
#include "checkpoint/family.h"
#include "checkpoint/open_model.h"
#include "cli/commands.h"
#include "cli/model_folder.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "model/cost.h"
#include "template/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/amounts.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Checks the model in MODEL_DIR, a folder or a GGUF file, and says what it is: family, sizes, parameters, tokenizer, chat
template, what it can be used for here, and every tensor with its type and shape. Nothing is loaded into memory. An error names the first field or
tensor that is wrong.

Examples:
  moe inspect runs/demo
  moe inspect deepseek-moe-16b-chat --json
  moe inspect deepseek-moe-16b.Q4_K_M.gguf)";

struct InspectFlags {
  std::string model;
  bool json = false;
};

struct TokenizerReport {
  bool usable = false;
  std::string text;
};

TokenizerReport tokenizer_of(const fs::path& folder, const ModelConfig& config) {
  try {
    const Tokenizer tokenizer = Tokenizer::load(folder);
    const auto ids = int64_t{tokenizer.id_count()};
    if (ids > config.vocab_size) {
      return {false, fmt::format("{} ids, more than the model's {} rows", ids, config.vocab_size)};
    }
    return {true, fmt::format("{} ids", ids)};
  } catch (const Error& error) {
    return {false, error.what()};
  }
}

std::string template_of(const fs::path& model) {
  std::vector<std::string> names;
  for (const auto& each : jinja::own_chat_templates(model)) names.push_back(each.origin);
  if (names.empty() && jinja::has_built_in_template(model)) return "the chat format of DeepSeekMoE, built in";
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

/// What a model can become, and why not.
std::string gguf_of(const fs::path& model, const ModelConfig& config) {
  try {
    // A GGUF file's own tokenizer is copied as it is.
    const bool own_tokenizer = !is_gguf(model) && has_tokenizer(model);
    return "architecture " + gguf_export(config, own_tokenizer ? model : fs::path());
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<std::string> uses_of(const ModelConfig& config, bool has_tokenizer) {
  std::vector<std::string> uses;
  if (has_tokenizer) uses = {"generate", "chat", "eval loss"};
  if (has_tokenizer && config.moe_layers() > 0) uses.emplace_back("trace");
  for (const char* use : {"logits", "verify", "convert", "cost", "train (model.from)"}) uses.emplace_back(use);
  return uses;
}

Json report_of(const std::string& folder, const WeightSource& weights) {
  const ModelConfig& config = weights.config();
  const ParameterCounts counts(config);
  Json tensors = Json::array();
  std::map<std::string, int64_t> types;
  std::set<std::string> files;
  int64_t bytes = 0;
  for (const StoredTensor& tensor : weights.tensors()) {
    tensors.push_back({{"name", tensor.name}, {"type", tensor.type}, {"shape", tensor.shape}, {"file", tensor.file}});
    types[tensor.type] += tensor.elements();
    files.insert(tensor.file);
    bytes += tensor.bytes;
  }
  const TokenizerReport tokenizer = tokenizer_of(folder, config);
  return {{"family", config.family},
          {"class", family_of(config).architecture},
          {"parameters", counts.stored()},
          {"activated_parameters", counts.activated()},
          {"layers", config.num_hidden_layers},
          {"moe_layers", config.moe_layers()},
          {"hidden_size", config.hidden_size},
          {"heads", config.num_attention_heads},
          {"key_value_heads", config.num_key_value_heads},
          {"head_dim", config.head_dim},
          {"routed_experts", config.n_routed_experts},
          {"shared_experts", config.n_shared_experts},
          {"experts_per_token", config.num_experts_per_tok},
          {"vocabulary", config.vocab_size},
          {"context", config.max_position_embeddings},
          {"bytes", bytes},
          {"elements_by_type", types},
          {"files", files.size()},
          {"tokenizer", tokenizer.text},
          {"chat_template", template_of(folder)},
          {"gguf", gguf_of(folder, config)},
          {"uses", uses_of(config, tokenizer.usable)},
          {"tensors", tensors}};
}

void print_report(const Json& report) {
  const auto number = [&](const char* key) { return report[key].get<int64_t>(); };
  print_output("family      {} ({})\n", report["family"].get<std::string>(), report["class"].get<std::string>());
  print_output("parameters  {:.4f} billion, {:.4f} billion used for a token\n",
               1e-9 * static_cast<double>(number("parameters")),
               1e-9 * static_cast<double>(number("activated_parameters")));
  print_output("layers      {}, {} of them with experts; width {}; {} of {}, {} of keys and values\n", number("layers"),
               number("moe_layers"), number("hidden_size"), counted(number("heads"), "head"), number("head_dim"),
               number("key_value_heads"));
  if (number("routed_experts") > 0) {
    print_output("experts     {} routed, {} of them for a token; {} shared\n", number("routed_experts"),
                 number("experts_per_token"), number("shared_experts"));
  }
  print_output("vocabulary  {} rows; context of {} tokens\n", number("vocabulary"), number("context"));
  std::string types;
  for (const auto& [type, elements] : report["elements_by_type"].items()) {
    types += fmt::format("{}{} {}", types.empty() ? "" : ", ", elements.get<int64_t>(), type);
  }
  print_output("weights     {} in {}: {}\n", bytes_text(number("bytes")), counted(number("files"), "file"), types);
  print_output("tokenizer   {}\n", report["tokenizer"].get<std::string>());
  print_output("template    {}\n", report["chat_template"].get<std::string>());
  print_output("as GGUF     {}\n", report["gguf"].get<std::string>());
  print_output("usable for  moe {}\n\n", fmt::join(report["uses"].get<std::vector<std::string>>(), ", "));
  for (const Json& tensor : report["tensors"]) {
    print_output("{:<5} {:<24} {}\n", tensor["type"].get<std::string>(),
                 fmt::format("[{}]", fmt::join(tensor["shape"].get<std::vector<int64_t>>(), ", ")),
                 tensor["name"].get<std::string>());
  }
}

void inspect(const InspectFlags& flags) {
  const Json report = report_of(flags.model, *open_weights(flags.model));
  if (flags.json) return print_text(json_text(report, 2) + "\n");
  print_report(report);
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command = app.add_subcommand("inspect", "Checks a model and says what is in it");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "the model's folder")->required();
  command->add_flag("--json", flags->json, "JSON instead of text");
  command->callback([flags] { inspect(*flags); });
}

}  // namespace moe
