#include <memory>
#include <optional>

#include "base/error.h"
#include "base/paths.h"
#include "checkpoint/expert_adapter.h"
#include "checkpoint/open_model.h"
#include "cli/commands.h"
#include "cli/conversion_report.h"
#include "cli/model_folder.h"
#include "cli/model_writing.h"
#include "formats/gguf.h"
#include "train/run_card.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Writes the model in MODEL in another form. MODEL is a model folder, the folder of a run (for its newest checkpoint,
whose weights alone are written: a checkpoint is four times as large) or a GGUF file (of several: the first).

If OUT ends in .gguf, it is a GGUF file for llama.cpp, of the architectures llama, deepseek, qwen3moe, olmoe and qwen2moe,
with the tokenizer and the chat template. What such a file cannot say (other routing, a tokenizer with words of its own)
is refused by name. --quant gives the types that llama.cpp's own program gives; norms and routers stay f32. Otherwise OUT
is a Hugging Face folder of the model's family: config.json, model.safetensors (several files and an index above 5 GiB),
the tokenizer's files and README.md, a model card. Blocks become f32 unless --dtype or --quant names another type.

The work goes in slices of tensors, so memory does not grow with the model. OUT is complete or absent. At the end comes a
table: type, size and relative error (root of the mean square) by kind of tensor.

--check FILE then runs both models on the first 4096 tokens of FILE. It prints, for each MoE layer and in all, the share of
the choices of experts that stay the same, and the mean loss (nats per token) of both. FILE is read as by `moe eval loss`,
whose loss on the same tokens is the same. Both models are read layer by layer, so memory does not grow with them here
either; it takes the time of two passes over all weights.

--experts-only writes, of a run that trained some experts (docs/finetuning.md), these experts' tensors and their list
(adapter.safetensors, expert_cfg.json). --experts DIR takes such an adapter for MODEL and writes the whole model.

Examples:
  moe convert runs/demo out/demo
  moe convert runs/law out/law-experts --experts-only
  moe convert deepseek-moe-16b-chat out/law --experts out/law-experts
  moe convert runs/demo demo.gguf --quant q8_0
  moe convert runs/demo demo.gguf --quant q4_k_m --check book.txt
  moe convert deepseek-moe-16b-base out/16b-f16 --dtype f16
  moe convert deepseek-moe-16b-chat deepseek-moe-16b-chat.Q4_K_M.gguf --quant q4_k_m
  moe convert deepseek-moe-16b.Q4_0.gguf out/16b --dtype bf16)";

struct ConvertFlags {
  std::string model;
  ModelOutput output;
  bool no_tokenizer = false;
  bool experts_only = false;
  std::string experts;  // an adapter; "": none
  std::string check;    // a text file; "": no check
};

/// The experts that a run with train.parameters = "experts" trained.
void convert_to_adapter(const ConvertFlags& flags) {
  if (is_gguf(flags.output.path)) fail_usage("--experts-only writes a folder, but OUT ends in .gguf; name a folder");
  if (!flags.experts.empty() || !flags.check.empty()) {
    fail_usage("--experts-only writes a part of a model, so --experts and --check have no effect; leave them out");
  }
  check_model_output(flags.output);
  const fs::path list = fs::path(flags.model) / kExpertListFile;
  if (!path_exists(list)) {
    fail("{} has no {}, which a run with train.parameters = \"experts\" writes; name such a run", flags.model,
         kExpertListFile);
  }
  const auto source = open_weights(flags.model);
  source->check_content();
  write_adapter(flags.output, *source, read_expert_list(list));
}

void convert(const ConvertFlags& flags) {
  if (flags.experts_only) return convert_to_adapter(flags);
  check_model_output(flags.output);
  auto source = open_weights(flags.model);
  if (!flags.experts.empty()) source = std::make_unique<AdaptedWeights>(std::move(source), flags.experts);
  if (is_gguf(flags.output.path)) gguf_architecture(source->config());  // refused before the tokenizer is read
  const Companions companions =
      companions_of(flags.model, flags.output, source->config().vocab_size, !flags.no_tokenizer);
  // What the check needs is refused before the work.
  std::optional<Batch> batch;
  if (!flags.check.empty()) batch = conversion_check_batch(flags.model, source->config(), flags.check);
  Origin origin{.sentence = "Written by `moe convert`.\n"};
  if (flags.experts.empty()) origin.run = run_card(flags.model);
  source->check_content();
  write_converted(flags.output, *source, companions, origin);
  if (batch) report_conversion(*source, flags.output, flags.check, *batch);
}

}  // namespace

void add_convert_command(CLI::App& app) {
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App* command =
      app.add_subcommand("convert", "Writes a model in another type or format, or a run's weights alone");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "the model's folder")->required();
  command
      ->add_option("OUT", flags->output.path,
                   "the folder to write, which must not exist or be empty; or a file that ends in .gguf")
      ->required()
      ->type_name("");
  add_model_output_options(*command, flags->output, "the type of the weights; default: as they are stored");
  command->add_flag("--experts-only", flags->experts_only,
                    "write the experts that the run trained, and their list: an adapter (ESFT)");
  command->add_option("--experts", flags->experts, "put the experts of this adapter in the place of the model's own")
      ->type_name("DIR");
  command->add_flag("--no-tokenizer", flags->no_tokenizer, "write the weights without their tokenizer");
  command
      ->add_option("--check", flags->check,
                   "then compare both models on the first 4096 tokens of this text: the choices of experts, the loss")
      ->type_name("FILE");
  command->callback([flags] { convert(*flags); });
}

}  // namespace moe
