#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/model_writing.h"
#include "cli/number_option.h"
#include "model/presets.h"
#include "train/read_run_config.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Writes a model with random weights: those that training begins with, for the same seed. For tests and benchmarks of
any size: the weights are drawn slice by slice, so memory does not grow with the model. OUT has no tokenizer. It is a
folder, or a GGUF file if its name ends in .gguf.

Examples:
  moe init --preset deepseekmoe-2b --seed 1 --out out/2b
  moe init --preset deepseekmoe-16b --dtype bf16 --out out/16b
  moe init --preset deepseekmoe-16b --quant q4_0 --out out/16b.gguf
  moe init --config configs/demo.toml --set model.vocab_size=4096 --out out/small
Presets: )";

struct InitFlags {
  std::string preset, config;
  std::vector<std::string> settings;
  uint64_t seed = 1;
  ModelOutput output;
};

ModelConfig config_of(const InitFlags& flags) {
  if (flags.preset.empty() == flags.config.empty()) fail_usage("give --preset NAME or --config FILE, one of the two");
  if (!flags.preset.empty()) {
    if (!flags.settings.empty()) fail_usage("--set changes a run file's keys; give --config FILE with it");
    return find_preset(flags.preset).config;
  }
  Settings settings = Settings::load(flags.config);
  for (const std::string& assignment : flags.settings) settings.set(assignment);
  ModelConfig config = read_run_config(settings).model;
  config.adapters.clear();  // those of a run that trains adapters are no part of its model
  return config;
}

void init(const InitFlags& flags) {
  const ModelConfig config = config_of(flags);
  check_model_output(flags.output);
  const InitialWeights source(config, flags.seed);
  write_converted(flags.output, source, {}, {fmt::format("Random weights of seed {}, not trained.\n", flags.seed)});
}

}  // namespace

void add_init_command(CLI::App& app) {
  auto flags = std::make_shared<InitFlags>();
  CLI::App* command = app.add_subcommand("init", "Writes a model of any size with random weights");
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.push_back(preset.name);
  command->footer(fmt::format("{}{}", kHelp, fmt::join(names, " ")));
  command->add_option("--preset", flags->preset, "a published model by name")->type_name("NAME");
  command->add_option("--config", flags->config, "the model of a run file")->type_name("FILE");
  command->add_option("--set", flags->settings, "a key of the run file: KEY=VALUE; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  add_seed(*command, "--seed", flags->seed, "of the weights");
  command
      ->add_option("--out", flags->output.path,
                   "the folder to write, which must not exist or be empty; or a file that ends in .gguf")
      ->required()
      ->type_name("OUT");
  add_model_output_options(*command, flags->output, "the type of the weights; default: f32");
  command->callback([flags] { init(*flags); });
}

}  // namespace moe
