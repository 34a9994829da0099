#include "cli/model_writing.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/paths.h"
#include "base/utf8.h"
#include "base/words.h"
#include "checkpoint/expert_adapter.h"
#include "checkpoint/family.h"
#include "checkpoint/file_types.h"
#include "checkpoint/hub/hub_model.h"
#include "cli/device_option.h"
#include "cli/number_option.h"
#include "formats/gguf.h"
#include "model/cost.h"
#include "train/amounts.h"

namespace moe {
namespace {

std::optional<DType> wanted_dtype(const ModelOutput& output) {
  if (output.dtype.empty()) return std::nullopt;
  return parse_type(output.dtype, is_gguf(output.path) ? plain_gguf_types() : folder_types());
}

std::vector<std::string> quantization_names() {
  std::vector<std::string> names;
  for (const Quantization& one : quantizations()) names.emplace_back(one.name);
  return names;
}

/// Null: none.
const Quantization* wanted_quantization(const ModelOutput& output) {
  if (output.quantization.empty()) return nullptr;
  if (!is_gguf(output.path)) {
    fail_usage("--quant {}: only a GGUF file holds blocks; let the output's name end in .gguf", output.quantization);
  }
  if (!output.dtype.empty()) fail_usage("--quant and --dtype both give the type of the weights; give one of the two");
  const Quantization* const found = find_quantization(output.quantization);
  if (found != nullptr) return found;
  fail_usage("--quant {}: expected one of {}", output.quantization, fmt::join(quantization_names(), ", "));
}

/// Model pages have identifiers such as "apache-2.0".
void check_license(const std::string& license) {
  const auto known = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-'; };
  if (license.size() <= 64 && std::all_of(license.begin(), license.end(), known)) return;
  fail_usage(
      "--license {}: expected an identifier of small letters, digits, dots and hyphens, such as mit or apache-2.0",
      valid_utf8(license));
}

/// README.md of a model's folder, with the head that model pages read.
std::string model_card(const WeightSource& source, const ModelOutput& output, const Origin& origin) {
  const ModelConfig& config = source.config();
  const ParameterCounts counts(config);
  std::string sizes = fmt::format(
      "| | |\n|---|---|\n| class | `{}` |\n| parameters | {} |\n| used for a token | {} |\n"
      "| layers, width | {}, {} |\n| vocabulary, context | {}, {} tokens |\n",
      family_of(config).architecture, count_text(counts.stored()), count_text(counts.activated()),
      config.num_hidden_layers, config.hidden_size, config.vocab_size, config.max_position_embeddings);
  if (config.n_routed_experts > 0) {
    sizes += fmt::format("| experts of a layer | {} routed, {} of them for a token; {} shared |\n",
                         config.n_routed_experts, config.num_experts_per_tok, config.n_shared_experts);
  }
  const std::string use = fmt::format(
      "## Use\n\nIn Python, with `transformers` 5 (FOLDER is this folder):\n\n"
      "    from transformers import AutoModelForCausalLM\n"
      "    model = AutoModelForCausalLM.from_pretrained(FOLDER{})\n\n"
      "With `moe`: `moe generate FOLDER --prompt TEXT`.\n\n",
      needs_modeling_file(config) ? ", trust_remote_code=True" : "");
  const std::string head =
      fmt::format("---\n{}library_name: transformers\npipeline_tag: text-generation\ntags:\n- {}\n{}---\n",
                  output.license.empty() ? "" : fmt::format("license: {}\n", output.license), config.family,
                  config.n_routed_experts > 0 ? "- mixture-of-experts\n" : "");
  std::string card =
      fmt::format("{}\n# {}\n\n{}\n{}\n{}{}", head, valid_utf8(tidy_path(output.path).filename().string()),
                  origin.sentence, sizes, use, origin.run);
  card.pop_back();  // a blank line at the end
  return card;
}

void print_table(const std::vector<WrittenKind>& kinds) {
  print_output("{:<16} {:>8} {:>6} {:>16} {:>12}  {}\n", "tensors", "count", "type", "elements", "size",
               "relative error");
  int64_t tensors = 0, elements = 0, bytes = 0;
  for (const WrittenKind& kind : kinds) {
    print_output("{:<16} {:>8} {:>6} {:>16} {:>12}  {:.2e}\n", name(kind.kind), kind.tensors, name(kind.dtype),
                 kind.elements, bytes_text(kind.bytes), kind.relative_error());
    tensors += kind.tensors;
    elements += kind.elements;
    bytes += kind.bytes;
  }
  print_output("{:<16} {:>8} {:>6} {:>16} {:>12}\n", "all", tensors, "", elements, bytes_text(bytes));
}

void show_progress(int64_t done, int64_t all) {
  show_status(fmt::format("{} of {} ({}%)", bytes_text(done), bytes_text(all), 100 * done / std::max<int64_t>(all, 1)));
}

}  // namespace

void add_model_output_options(CLI::App& command, ModelOutput& output, const std::string& dtype_help) {
  command.add_option("--dtype", output.dtype, dtype_help)
      ->type_name(fmt::format("{}", fmt::join(folder_types().names(), "|")));
  command
      .add_option("--quant", output.quantization,
                  fmt::format("of a GGUF file: blocks instead, {}; norms and routers stay f32",
                              alternatives(quantization_names())))
      ->type_name("TYPE");
  command.add_option("--license", output.license, "the license that the model card names, such as mit or apache-2.0")
      ->type_name("ID");
  add_threads_option(command, output.threads);
}

void check_model_output(const ModelOutput& output) {
  wanted_dtype(output);
  wanted_quantization(output);
  check_license(output.license);
  if (is_gguf(output.path)) {
    check_output_file(output.path);
    if (path_exists(output.path)) fail("{} exists already; remove it or choose another name", output.path);
    return;
  }
  check_output_folder(output.path);
  if (path_exists(output.path) && !is_empty_folder(output.path)) {
    fail("{} exists already; remove it or choose another folder", output.path);
  }
}

void write_converted(const ModelOutput& output, const WeightSource& source, const Companions& companions,
                     const Origin& origin) {
  ThreadPool pool(output.threads);
  std::vector<WrittenKind> kinds;
  if (is_gguf(output.path)) {
    const GgufOptions options{.dtype = wanted_dtype(output),
                              .quantization = wanted_quantization(output),
                              .name = fs::path(output.path).stem().string(),
                              .license = output.license,
                              .tokenizer = companions.entries,
                              .progress = show_progress};
    kinds = write_gguf(output.path, source, options, pool);
  } else {
    FolderWriter folder(output.path);
    WriteOptions options{.dtype = wanted_dtype(output)};
    options.progress = show_progress;
    kinds = write_model(folder.path(), source, options, pool);
    for (const auto& [name, content] : companions.files) {
      make_folder((folder.path() / name).parent_path());
      write_file(folder.path() / name, content);
    }
    write_file(folder.path() / "README.md", model_card(source, output, origin));
    folder.commit();
  }
  clear_status();
  log_info("wrote {}", output.path);
  print_table(kinds);
}

void write_adapter(const ModelOutput& output, const WeightSource& source, const ExpertList& list) {
  ThreadPool pool(output.threads);
  FolderWriter folder(output.path);
  WriteOptions options{.dtype = wanted_dtype(output)};
  options.progress = show_progress;
  const std::vector<WrittenKind> kinds = write_expert_adapter(folder.path(), source, list, options, pool);
  folder.commit();
  clear_status();
  log_info("wrote {}", output.path);
  print_table(kinds);
}

}  // namespace moe
