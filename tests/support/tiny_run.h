#pragma once
/// A dataset and a run file for tests of the trainer, so small that a whole run takes a fraction of a second.

#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "base/random.h"
#include "checkpoint/checksums.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "tests/support/temporary_folder.h"
#include "tokenizer/trainer.h"
#include "train/read_run_config.h"
#include "train/resume.h"
#include "train/settle.h"
#include "train/trainer.h"

namespace moe::test {

/// Sentences of words drawn by `seed`.
inline std::vector<std::string> tiny_texts(int count, uint64_t seed) {
  constexpr std::array kWords{"river", "stone", "green", "walks", "under", "the", "old", "bridge", "and", "sings"};
  const Random random(seed, 0);
  std::vector<std::string> texts;
  uint64_t draw = 0;
  for (int i = 0; i < count; ++i) {
    std::string text = "the";
    for (uint64_t word = 4 + random.below(draw++, 30); word > 0; --word) {
      text += std::string(" ") + kWords[random.below(draw++, kWords.size())];
    }
    texts.push_back(text);
  }
  return texts;
}

/// What `function` writes to stderr.
template <class Function>
std::string said(const Function& function) {
  testing::internal::CaptureStderr();
  function();
  return testing::internal::GetCapturedStderr();
}

class TinyRun {
 public:
  TinyRun() : pool_(2) {
    TokenizerTrainer trainer({.vocab_size = 290}, pool_);
    for (const std::string& text : tiny_texts(60, 1)) trainer.add_document(text);
    tokenizer_ = std::make_unique<Tokenizer>(trainer.finish());
    make_folder(folder_ / "tokenizer");
    tokenizer_->save(folder_ / "tokenizer");
    make_dataset("data", tiny_texts(60, 1));
    make_dataset("valid", tiny_texts(10, 2));
  }

  fs::path operator/(const std::string& name) const { return folder_ / name; }

  void make_dataset(const std::string& name, const std::vector<std::string>& texts, bool specials = true) {
    const Tokenizer& tokenizer = *tokenizer_;
    DatasetWriter writer(folder_ / name, {.vocab_size = 290,
                                          .bos_id = specials ? *tokenizer.bos() : -1,
                                          .eos_id = specials ? *tokenizer.eos() : -1,
                                          .tokenizer_fingerprint = tokenizer_fingerprint(folder_ / "tokenizer"),
                                          .domains = {}});
    const int32_t domain = writer.add_domain("text");
    for (const std::string& text : texts) {
      std::vector<int32_t> ids;
      tokenizer.encode(text, {.add_special = false}, ids);
      writer.add_document(ids, domain, static_cast<int64_t>(text.size()));
    }
    tokenizer.save(writer.temporary_folder());
    writer.finish();
  }

  /// The run file, of twelve steps into the folder `name`; `set` are overrides as on the command line.
  Settings settings(const std::string& name, const std::vector<std::string>& set = {}) const {
    Settings settings = Settings::parse(R"(
[data]
sequence_length = 24
rows_per_step = 4
microbatch_rows = 2
[model]
vocab_size = 290
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 2
n_shared_experts = 1
n_routed_experts = 4
num_experts_per_tok = 2
moe_intermediate_size = 8
max_position_embeddings = 48
[train]
steps = 12
init_std = 0.1
[optimizer]
learning_rate = 1e-2
[checkpoint]
every = 4
minutes = 0
)",
                                        "tiny.toml");
    settings.set("run.dir=" + (folder_ / name).string());
    settings.set("data.train=" + (folder_ / "data").string());
    for (const std::string& assignment : set) settings.set(assignment);
    return settings;
  }

  /// What settings() say.
  RunConfig config(const std::string& name, const std::vector<std::string>& set = {}) const {
    return read(settings(name, set));
  }
  RunConfig read(Settings settings, const RunStart& start = {}) const {
    const auto vocabulary = [](const std::string&) { return int64_t{290}; };
    RunConfig run = read_run_config(settings, vocabulary, dataset_rows_per_epoch, start);
    if (run.chooses_microbatch()) settle(run, {std::max<int64_t>(run.data.microbatch_rows, 1), run.step.recompute});
    return run;
  }

  /// Does what `moe train` does; returns the exit status.
  int train(const std::string& name, const std::vector<std::string>& set = {}, const StartOptions& options = {}) {
    return train(config(name, set), options);
  }
  int train(const RunConfig& run, const StartOptions& options = {}) {
    const Dataset data(run.data.train);
    std::unique_ptr<Dataset> valid;
    if (!run.data.valid.empty()) valid = std::make_unique<Dataset>(run.data.valid);
    const Tokenizer tokenizer = Tokenizer::load(run.data.train);
    const auto device = make_cpu_device();
    const auto backend = make_cpu_backend(pool_);
    Trainer trainer(run, plan_training(run.model, run.step), {data, valid.get(), tokenizer}, *device, *backend, pool_,
                    options);
    return trainer.run();
  }
  int resume(const std::string& name, const std::vector<std::string>& set = {},
             const std::vector<std::string>& allowed = {}) {
    return train(read(settings(name, set), start_of(true)), {.resume = true, .allowed = allowed});
  }

  /// The same with the values that the checkpoint has and `set` does not give, as the command keeps them.
  int resume_as_the_command(const std::string& name, const std::vector<std::string>& set,
                            const std::vector<std::string>& allowed) {
    Settings given = settings(name, set);
    const auto found = find_checkpoint(*this / name).found;
    keep_settings(given, *found, read(given, start_of(true)), allowed);
    return train(read(given, start_of(true)), {.resume = true, .allowed = allowed});
  }

  /// The lines of a log, without the numbers that differ from run to run.
  std::vector<Json> log(const std::string& name, const std::string& file = "log.jsonl") const {
    std::vector<Json> lines;
    std::istringstream text(read_file(folder_ / name / file));
    for (std::string line; std::getline(text, line);) {
      Json object = parse_json(line, file);
      if (object.contains("run")) continue;  // about the run, not a step
      for (const char* key : {"tokens_per_second", "time", "peak_bytes", "exchange_seconds"}) object.erase(key);
      lines.push_back(std::move(object));
    }
    return lines;
  }

 private:
  TemporaryFolder folder_;
  ThreadPool pool_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

/// Makes a tensor of a checkpoint's optimiser state infinite, or one row of it.
inline void poison(const fs::path& checkpoint, const std::string& name, int64_t row = -1) {
  const fs::path path = checkpoint / "optimizer-00001-of-00001.safetensors";
  std::string bytes = read_file(path);
  {
    const SafetensorsFile file(path);
    const SafetensorsTensor* const tensor = file.find(name);
    ASSERT_NE(tensor, nullptr);
    const std::string whole(reinterpret_cast<const char*>(tensor->data), tensor->bytes);
    const size_t at = bytes.find(whole);
    ASSERT_NE(at, std::string::npos);
    const size_t row_bytes = row < 0 ? tensor->bytes : tensor->bytes / static_cast<size_t>(tensor->shape[0]);
    const size_t first = at + (row < 0 ? 0 : static_cast<size_t>(row) * row_bytes);
    const float large = INFINITY;
    for (size_t i = 0; i < row_bytes; i += sizeof(large)) std::memcpy(&bytes[first + i], &large, sizeof(large));
  }
  write_file(path, bytes);
  fs::remove(checkpoint / kChecksumFile);
}

/// Two runs ended with the same logs and the same bits of all state.
inline void expect_same_end(const TinyRun& tiny, const std::string& a, const std::string& b) {
  EXPECT_EQ(tiny.log(a), tiny.log(b));
  for (const char* file : {"step-12/model.safetensors", "step-12/optimizer-00001-of-00001.safetensors"}) {
    EXPECT_EQ(read_file(tiny / a / file), read_file(tiny / b / file)) << file;
  }
}

}  // namespace moe::test
