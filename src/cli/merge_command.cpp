#include <algorithm>
#include <memory>

#include "base/error.h"
#include "checkpoint/open_model.h"
#include "cli/commands.h"
#include "cli/lora_option.h"
#include "cli/model_folder.h"
#include "cli/model_writing.h"
#include "formats/gguf.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Adds LoRA adapters to the weights of MODEL and writes the result as a model of its own, which needs no --lora. MODEL is a
model folder, a GGUF file, the folder of a run, or the folder of an adapter (also of a run that trains one): that stands for
the model that it was trained on, with this adapter. Each --lora is an adapter's folder in PEFT's form, or a run's, times
SCALE (default 1); several are added up.

DIR is a folder, or a file that ends in .gguf, as for `moe convert`, with the same options for types. Changed weights keep
their type, except blocks, which become f32; a type of 16 bits rounds away what is smaller than its digits, which
--dtype f32 keeps. The work goes in slices of tensors, so memory does not grow with the model. DIR is complete or absent.

Examples:
  moe merge runs/demo --lora runs/polite --out out/polite
  moe merge runs/polite --out out/polite
  moe merge deepseek-moe-16b-chat --lora runs/law:0.7 --lora runs/short:0.3 --out out/law --dtype bf16)";

struct MergeFlags {
  std::string model;
  std::vector<ChosenAdapter> adapters;
  ModelOutput output;
};

/// The adapter's tokenizer, template and generation settings, or the model's. Adapters of other programs bring no
/// generation settings.
Companions companions_with(const AdaptedModel& model, const ModelOutput& output, int64_t rows) {
  Companions companions = companions_of(model.companions, output, rows, true);
  for (const auto& file : companions_of(model.folder, output, rows, false).files) {
    const bool there = std::any_of(companions.files.begin(), companions.files.end(),
                                   [&](const auto& other) { return other.first == file.first; });
    if (!there) companions.files.push_back(file);
  }
  return companions;
}

void merge(const MergeFlags& flags) {
  check_model_output(flags.output);
  const AdaptedModel model = adapted_model(flags.model, flags.adapters);
  if (model.adapters.empty()) {
    fail_usage("--lora is missing: name an adapter's folder; `moe convert` writes a model without one");
  }
  auto base = open_weights(model.folder);
  if (is_gguf(flags.output.path)) gguf_architecture(base->config());  // refused before the tokenizer is read
  const AdapterSet adapters(model.adapters, base->config());
  const Companions companions = companions_with(model, flags.output, base->config().vocab_size);
  base->check_content();
  const MergedWeights merged(std::move(base), adapters);
  write_converted(flags.output, merged, companions, {"Written by `moe merge`.\n"});
}

}  // namespace

void add_merge_command(CLI::App& app) {
  auto flags = std::make_shared<MergeFlags>();
  CLI::App* command = app.add_subcommand("merge", "Adds LoRA adapters to a model's weights and writes the result");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "the model's folder")->required();
  add_lora_option(*command, flags->adapters);
  command
      ->add_option("--out", flags->output.path,
                   "the folder to write, which must not exist or be empty; or a file that ends in .gguf")
      ->required()
      ->type_name("DIR");
  add_model_output_options(*command, flags->output, "the type of the weights; default: as they are stored");
  command->callback([flags] { merge(*flags); });
}

}  // namespace moe
