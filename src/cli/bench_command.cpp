#include <memory>

#include "backend/cpu/context.h"
#include "base/error.h"
#include "base/output.h"
#include "base/platform.h"
#include "base/units.h"
#include "cli/bench_generate.h"
#include "cli/bench_layer.h"
#include "cli/bench_step.h"
#include "cli/bench_tokenizer.h"
#include "cli/cache_option.h"
#include "cli/commands.h"
#include "cli/memory_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/weights_option.h"
#include "formats/json.h"
#include "infer/sampler.h"
#include "measure/machine.h"
#include "tokenizer/trainer.h"
#include "train/read_run_config.h"

namespace moe {
namespace {

constexpr const char* kBenchHelp =
    R"(Without a subcommand it runs `moe bench step`. Measure on an idle machine: if `cpu seconds` is less than
threads times `step` seconds, other programs used the processors too.

Examples:
  moe bench --json
  moe bench step --layers 2 --experts 15 --top-k 3 --rows 1 --steps 5
  moe bench step --device cuda --config configs/deepseekmoe-2b.toml --rows 8
  moe bench layer --tokens 4096 --dtype bf16 --skew 1
  moe bench step --config configs/deepseekmoe-2b.toml --rows 1 --even
  moe bench generate --config configs/demo.toml
  moe bench generate --config configs/deepseekmoe-16b.toml --batch 1,8,64 --context 512,4096
  moe bench generate --config configs/deepseekmoe-16b.toml --batch 1 --quant q4_0 --memory-limit 16GB
  moe bench tokenizer --tokenizer runs/tokenizer --vocab-size 8192 books.txt code.jsonl.zst
  moe bench machine)";

/// The options whose value a run file's model can give too.
constexpr std::pair<const char*, int64_t ModelConfig::*> kModelSizes[] = {
    {"--hidden", &ModelConfig::hidden_size},        {"--layers", &ModelConfig::num_hidden_layers},
    {"--heads", &ModelConfig::num_attention_heads}, {"--kv-heads", &ModelConfig::num_key_value_heads},
    {"--shared", &ModelConfig::n_shared_experts},   {"--experts", &ModelConfig::n_routed_experts},
    {"--top-k", &ModelConfig::num_experts_per_tok}, {"--width", &ModelConfig::moe_intermediate_size},
    {"--vocabulary", &ModelConfig::vocab_size},
};

/// Takes the model and the type from the run file of --config, except where an option sets them. Returns the run file.
RunConfig take_run_file(const CLI::App& command, BenchFlags& flags) {
  Settings settings = Settings::load(flags.config);
  RunConfig run = read_run_config(settings);
  const ModelConfig options = flags.model;
  flags.model = run.model;
  for (const auto& [name, size] : kModelSizes) {
    if (command.get_option_no_throw(name) != nullptr && command.count(name) > 0) flags.model.*size = options.*size;
  }
  if (command.count("--dtype") == 0) flags.dtype = name(run.step.dtype);
  flags.model.even_routing = options.even_routing;
  if (options.even_routing && !run.model.routing_row().score_settings) {
    fail_usage("--even: in {} tokens do not choose by score (model.routing = {}), so their choice cannot be made even",
               flags.config, name(run.model.routing));
  }
  return run;
}

void check_top_k(const ModelConfig& model) {
  if (model.n_routed_experts == 0 || model.num_experts_per_tok <= model.n_routed_experts) return;
  fail_usage("--top-k {}: there are {} routed experts (--experts), expected 1 to {}", model.num_experts_per_tok,
             model.n_routed_experts, model.n_routed_experts);
}

void run_step(const CLI::App& command, StepFlags flags) {
  if (!flags.config.empty()) {
    const RunConfig run = take_run_file(command, flags);
    if (command.count("--length") == 0) flags.length = run.data.sequence_length;
    flags.balance = run.step.balance;
    if (command.count("--rows") == 0) flags.rows = 0;
    flags.run_file = run;
  }
  check_top_k(flags.model);
  bench_step(std::move(flags));
}

void run_layer(const CLI::App& command, LayerFlags flags) {
  if (!flags.config.empty()) take_run_file(command, flags);
  check_top_k(flags.model);
  if (!flags.model.routing_row().score_settings) {
    fail_usage("{}: model.routing is {}, expected topk: the layer is measured by itself, without a model around it",
               flags.config, name(flags.model.routing));
  }
  bench_layer(flags);
}

/// The limit for sizes of matrices and for repetitions: far beyond any model, and small enough that products of several
/// fit 64 bits.
constexpr int64_t kMostSize = 1 << 20;

void add_size(CLI::App& command, const char* name, int64_t& value, int64_t least, const char* help) {
  add_number(command, name, value, {least, kMostSize}, help);
}

/// The sizes of a MoE layer, and the options that all measurements share.
void add_common_options(CLI::App& command, BenchFlags& flags, int64_t least_experts, const char* experts_help) {
  command.add_option("--config", flags.config,
                     "take the model and the type (and sequence length and balance losses) from this run file");
  add_size(command, "--hidden", flags.model.hidden_size, 1, "hidden size d");
  add_size(command, "--shared", flags.model.n_shared_experts, 0, "shared experts");
  add_size(command, "--experts", flags.model.n_routed_experts, least_experts, experts_help);
  add_size(command, "--top-k", flags.model.num_experts_per_tok, 1, "routed experts that a token uses");
  add_size(command, "--width", flags.model.moe_intermediate_size, 1, "width of an expert");
  command.add_flag("--even", flags.model.even_routing,
                   "forced balance: tokens choose experts in turn and ignore the router's scores");
  add_size(command, "--product", flags.product, 0, "size of the square matrix product to compare with; 0: none");
  command.add_flag("--json", flags.json, "print JSON");
  add_dtype_option(command, flags.dtype);
  add_device_options(command, flags.device);
  std::vector<std::string> paths;
  for (const NamedCudaPath& path : kCudaPaths) paths.emplace_back(path.name);
  command
      .add_option("--kernels", flags.kernels,
                  "kernels on a GPU: automatic (the fastest); portable: without those for one kind of GPU; or one path "
                  "alone: hopper, tensor, simt; or invariant: those of --batch-invariant")
      ->check(CLI::IsMember(paths))
      ->capture_default_str();
}

/// The common options, and the sizes of the parts other than MoE layers.
void add_model_options(CLI::App& command, BenchFlags& flags) {
  add_common_options(command, flags, 0, "routed experts; 0: dense layers of the same width");
  add_size(command, "--layers", flags.model.num_hidden_layers, 1, "layers, each with experts");
  add_size(command, "--heads", flags.model.num_attention_heads, 1, "attention heads");
  add_size(command, "--kv-heads", flags.model.num_key_value_heads, 0, "key/value heads; 0: as --heads");
  add_size(command, "--vocabulary", flags.model.vocab_size, 1, "vocabulary size");
}

void add_repeats(CLI::App& command, int& repeats, const char* help) {
  add_number(command, "--repeats", repeats, {1, 1000}, help);
}

void add_step_options(CLI::App& command, StepFlags& flags) {
  add_model_options(command, flags);
  add_size(command, "--rows", flags.rows, 1,
           "sequences in a microbatch; with --config: those that `moe train` would take here");
  add_size(command, "--length", flags.length, 1, "tokens in a sequence");
  add_size(command, "--microbatches", flags.microbatches, 1, "microbatches in a step");
  command.add_flag("--recompute", flags.recompute, "run layers again in backward instead of keeping activations");
  command
      .add_flag("--rebuild{all}", flags.rebuild,
                "make again in backward what one norm or one product makes; =norms: what a norm makes")
      ->check(CLI::IsMember({name(Rebuild::nothing), name(Rebuild::norms), name(Rebuild::all)}));
  add_number(command, "--lora", flags.lora, {0, 65536},
             "train adapters of this rank beside frozen weights, on every linear map but the head; 0: train all");
  command
      .add_option("--lora-base", flags.lora_base,
                  "with --lora, the type of the frozen weights: that of --dtype, or blocks such as nf4")
      ->type_name("TYPE");
  add_number(command, "--steps", flags.steps, {1, 100000}, "timed steps");
  add_memory_option(command, flags.memory_limit);
  add_number(command, "--warm-up", flags.warm_up, {0, 1000}, "steps before the timed ones");
}

void add_tokenizer(CLI::App& parent) {
  auto flags = std::make_shared<TokenizerBenchFlags>();
  CLI::App* command = parent.add_subcommand("tokenizer", "Encoding text files, and training a vocabulary on them");
  add_tokenizer_option(*command, flags->tokenizer, "encode with this one (folder or tokenizer.json)");
  add_number(*command, "--vocab-size", flags->vocab_size, {0, kMostVocabulary},
             "train a vocabulary of this size on all of the text; 0: none");
  add_number(*command, "--mib", flags->mib, {1, 1 << 20}, "the most text to encode, taken from all files");
  add_threads_option(*command, flags->threads, "threads to measure besides one thread; 0: one per processor");
  add_repeats(*command, flags->repeats, "encode so many times and take the best");
  command->add_flag("--json", flags->json, "print JSON");
  add_document_options(*command, flags->sources);
  command->add_option("FILE", flags->files, "files with text, as for `moe tokenizer train`")
      ->required()
      ->type_name("FILE...");
  command->callback([flags] { bench_tokenizer(*flags); });
}

struct MachineFlags {
  int64_t product = 4096;
  int64_t copy_mib = 512;
  int repeats = 3;
  bool json = false;
  DeviceOptions device;
};

void bench_machine(const MachineFlags& flags) {
  Compute compute = make_compute(flags.device);
  const auto product = [&](DType dtype) {
    return 1e-9 * measure_product(*compute.backend, *compute.device, dtype, flags.product, flags.repeats);
  };
  const auto multiply_add = [&](bool pairs) {
    if (compute.kind != DeviceKind::cpu) return Json();
    constexpr int64_t kSteps = int64_t{1} << 22;
    const auto kernel = cpu::kernels_for(best_isa()).matrix.multiply_add;
    const double rate = measure_in_registers(
        compute.pool, [&] { return kernel(kSteps, pairs); }, flags.repeats);
    return rate > 0 ? Json(1e-9 * rate) : Json();
  };
  const int64_t bytes = flags.copy_mib << 20;
  const Json json = {{"processor", compute.device->info().name},
                     {"memory_gib", gib(compute.device->info().memory_bytes)},
                     {"threads", compute.pool.size()},
                     {"product_f32_gflops", product(DType::f32)},
                     {"product_bf16_gflops", product(DType::bf16)},
                     {"multiply_add_f32_gflops", multiply_add(false)},
                     {"multiply_add_bf16_gflops", multiply_add(true)},
                     {"copy_gb_per_s", 1e-9 * measure_copy(*compute.backend, *compute.device, bytes, flags.repeats)},
                     {"read_gb_per_s", 1e-9 * measure_read(*compute.backend, *compute.device, bytes, flags.repeats)}};
  if (flags.json) return print_output("{}\n", json_text(json, 2));
  print_output("{}, {}, {:.1f} GiB\n", json.at("processor").get<std::string>(), counted(compute.pool.size(), "thread"),
               json.at("memory_gib").get<double>());
  print_output("{:.1f} GFLOP/s f32 and {:.1f} GFLOP/s bf16 in a product of {} x {} matrices\n",
               json.at("product_f32_gflops").get<double>(), json.at("product_bf16_gflops").get<double>(), flags.product,
               flags.product);
  for (const char* type : {"f32", "bf16"}) {
    const Json& rate = json.at(fmt::format("multiply_add_{}_gflops", type));
    if (rate.is_null()) continue;
    print_output("{:.1f} GFLOP/s {} of multiplications and additions in registers ({})\n", rate.get<double>(), type,
                 name(best_isa()));
  }
  print_output("{:.1f} GB/s read and written in a copy of {} MiB, {:.1f} GB/s read alone\n",
               json.at("copy_gb_per_s").get<double>(), flags.copy_mib, json.at("read_gb_per_s").get<double>());
}

void add_layer(CLI::App& parent) {
  auto flags = std::make_shared<LayerFlags>();
  CLI::App* command =
      parent.add_subcommand("layer", "A MoE layer, forward and backward, beside its products and a dense FFN");
  add_common_options(*command, *flags, 1, "routed experts");
  add_size(*command, "--tokens", flags->tokens, 1, "tokens");
  add_number(*command, "--skew", flags->skew, {.least = 0, .most = 100},
             "imbalance: the score of expert e changes by -SKEW ln(e + 1)");
  add_repeats(*command, flags->repeats, "repeat so many times and take the median");
  command->callback([flags, command] { run_layer(*command, *flags); });
}

void add_generate(CLI::App& parent) {
  auto flags = std::make_shared<GenerateBenchFlags>();
  CLI::App* command = parent.add_subcommand("generate", "A prompt's pass, then token by token, beside their limits");
  add_model_options(*command, *flags);
  add_size(*command, "--prompt", flags->prompt, 1, "tokens of the prompt");
  add_size(*command, "--tokens", flags->tokens, 1, "tokens after it");
  add_numbers(
      *command, "--batch", flags->batches, {1, kMostSize},
      "sequences that take a token each at a time, several sizes with commas between: no prompt is read, the cache is "
      "full already, and tokens are chosen on the device; default with --context: 1");
  add_numbers(*command, "--context", flags->contexts, {1, kMostSize},
              "tokens in the cache already, several lengths with commas between; they may exceed the model's "
              "max_position_embeddings; default with --batch: 512");
  add_repeats(*command, flags->repeats, "repeat so many times and take the median");
  add_blocks_option(*command, flags->quant);
  add_cache_option(*command, flags->cache_type);
  add_number(*command, "--temperature", flags->sampling.temperature, {.least = 0, .most = kMostTemperature},
             "with --batch: draw tokens; 0: take the most likely one");
  add_number(*command, "--draw-top-k", flags->sampling.top_k, {0, INT32_MAX}, "of the draws; 0: all tokens");
  add_number(*command, "--draw-top-p", flags->sampling.top_p, {.least = 0, .most = 1, .above = true},
             "of the draws; 1: all tokens");
  add_memory_option(*command, flags->memory_limit);
  command->callback([flags, command] {
    if (!flags->config.empty()) take_run_file(*command, *flags);
    bench_generate(*flags);
  });
}

void add_machine(CLI::App& parent) {
  auto flags = std::make_shared<MachineFlags>();
  CLI::App* command =
      parent.add_subcommand("machine", "This machine's ceilings: a large product, registers, a copy, reading");
  add_number(*command, "--product", flags->product, {1, 1 << 16}, "rows and columns of the matrices");
  add_number(*command, "--copy-mib", flags->copy_mib, {1, 1 << 20}, "size of the copied tensor");
  add_repeats(*command, flags->repeats, "repeat so many times and take the best");
  command->add_flag("--json", flags->json, "print JSON");
  add_device_options(*command, flags->device);
  command->callback([flags] { bench_machine(*flags); });
}

}  // namespace

void add_bench_command(CLI::App& app) {
  auto flags = std::make_shared<StepFlags>();
  CLI::App* command = app.add_subcommand("bench", "Measures the speed of this machine, training and generating");
  command->footer(kBenchHelp);
  command->require_subcommand(0, 1);
  add_step_options(*command, *flags);
  command->callback([flags, command] {
    if (command->get_subcommands().empty()) run_step(*command, *flags);
  });
  auto step_flags = std::make_shared<StepFlags>();
  CLI::App* step = command->add_subcommand("step", "A training step on random tokens");
  add_step_options(*step, *step_flags);
  step->callback([step_flags, step] { run_step(*step, *step_flags); });
  add_layer(*command);
  add_generate(*command);
  add_tokenizer(*command);
  add_machine(*command);
}

}  // namespace moe
