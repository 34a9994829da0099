#include "cli/conversion_report.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "base/activity.h"
#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/units.h"
#include "checkpoint/open_model.h"
#include "cli/device_option.h"
#include "cli/model_folder.h"
#include "eval/conversion_check.h"
#include "eval/text_documents.h"
#include "formats/gguf.h"
#include "tokenizer/gguf_tokenizer.h"

namespace moe {
namespace {

constexpr int kMostThreads = 8;  // each has 32 MiB of scratch

bool tokenizes(const std::string& model) {
  return is_gguf(model) ? has_gguf_tokenizer(GgufFile(model)) : has_tokenizer(model);
}

/// In percent, with two digits; 100.00 only if all are the same.
double percent(int64_t same, int64_t all) {
  return all == 0 ? 100 : std::floor(1e4 * static_cast<double>(same) / static_cast<double>(all)) / 1e2;
}

void print_choices(const std::vector<SameChoices>& layers) {
  if (layers.empty()) return;
  print_output("{:<16} {:>12}\n", "layer", "same experts");
  SameChoices sum;
  for (const SameChoices& layer : layers) {
    print_output("{:<16} {:>11.2f}%\n", layer.layer, percent(layer.same, layer.all));
    sum.same += layer.same;
    sum.all += layer.all;
  }
  print_output("{:<16} {:>11.2f}%\n", "all", percent(sum.same, sum.all));
}

CheckedModel check(const WeightSource& weights, const std::string& name, const Batch& batch, Compute& compute) {
  const Activity activity("checking " + name);
  const int64_t layers = weights.config().num_hidden_layers;
  CheckedModel checked = run_check(weights, batch, *compute.device, *compute.backend, compute.pool, [&](int64_t layer) {
    show_status(layer < 0 ? fmt::format("checking {}: embedding or head", name)
                          : fmt::format("checking {}: layer {} of {}", name, layer + 1, layers));
  });
  clear_status();
  return checked;
}

}  // namespace

Batch conversion_check_batch(const std::string& model, const ModelConfig& config, const std::string& file) {
  check_document_file(file);
  if (!tokenizes(model)) {
    fail("--check: {} has no tokenizer, which makes tokens of {}; put its files there, or leave the option out", model,
         file);
  }
  const Tokenizer tokenizer = load_model_tokenizer(model, config.vocab_size);
  return check_batch(load_first_documents(file, tokenizer, CheckLimits{}.tokens), config);
}

void report_conversion(const WeightSource& source, const ModelOutput& output, const std::string& file,
                       const Batch& batch) {
  const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  Compute compute(DeviceKind::cpu, std::min(output.threads > 0 ? output.threads : processors, kMostThreads));
  const CheckedModel before = check(source, "the source", batch, compute);
  const CheckedModel after = check(*open_weights(output.path), output.path, batch, compute);
  print_output("\ncheck on {} of {}\n", counted(batch.num_tokens, "token"), file);
  print_choices(same_choices(source.config(), before, after));
  const double targets = static_cast<double>(batch.num_targets);
  print_output("{:<16} {:>12.6f}\n{:<16} {:>12.6f}\n{:<16} {:>+12.6f}\n", "loss before", before.nats / targets,
               "loss after", after.nats / targets, "change", (after.nats - before.nats) / targets);
}

}  // namespace moe
