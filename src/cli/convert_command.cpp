#include <memory>

#include "checkpoint/gguf_weights.h"
#include "cli/commands.h"
#include "cli/model_folder.h"
#include "cli/model_writing.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Writes the model in MODEL_DIR as a Hugging Face folder of its family: config.json, model.safetensors (several files and
an index above 5 GiB), the tokenizer's files and README.md, a model card. A run folder stands for its newest checkpoint,
whose weights alone are written: a checkpoint is four times as large. Weights in several files become as few as
possible, and a layer's experts become tensors of their own.

MODEL_DIR may also be a GGUF file (of several: the first), of the architectures llama and deepseek. Its block types become
f32 unless --dtype names another type. Its tokenizer is not written.

The work goes in slices of tensors, so memory does not grow with the model. OUT is complete or absent. At the end comes a
table: type, size and relative error (root of the mean square) by kind of tensor.

Examples:
  moe convert runs/demo out/demo
  moe convert deepseek-moe-16b-base out/16b-f16 --dtype f16
  moe convert deepseek-moe-16b.Q4_0.gguf out/16b --dtype bf16)";

struct ConvertFlags {
  std::string model;
  ModelOutput output;
};

void convert(const ConvertFlags& flags) {
  check_model_output(flags.output);
  const auto source = open_weights(flags.model);
  write_model_folder(flags.output, *source, companion_files(flags.model), "Written by `moe convert`.\n");
}

}  // namespace

void add_convert_command(CLI::App& app) {
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App* command = app.add_subcommand("convert", "Writes a model in another type, or a run's weights alone");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "the model's folder, or a run's")->required();
  command->add_option("OUT", flags->output.folder, "the folder to write; it must not exist or be empty")
      ->required()
      ->type_name("");
  add_model_output_options(*command, flags->output, "the type of the weights; default: as they are stored");
  command->callback([flags] { convert(*flags); });
}

}  // namespace moe
