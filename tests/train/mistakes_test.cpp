// What a run file gets wrong is told at once, each with its place and what was probably meant.

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "train/read_run_config.h"
#include "train/run_keys.h"

namespace moe {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const char* const kGood = R"([data]
sequence_length = 32
rows_per_step = 4
[model]
vocab_size = 400
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 32
[train]
steps = 100
)";

std::string refusal(const std::string& more, const std::vector<std::string>& set = {}) {
  return test::error_of<UsageError>([&] {
    Settings settings = Settings::parse(kGood + more, "run.toml");
    for (const std::string& assignment : set) settings.set(assignment);
    read_run_config(settings, [](const std::string&) { return int64_t{400}; });
  });
}

TEST(Mistakes, AreAllToldInTheOrderOfTheFile) {
  const std::string text = refusal(
      "seeds = 3\n[optimizer]\nlr = 0.1\nclip = -1\n[eval]\nevery = \"often\"\n[model2]\ndim = 3\n", {"train.step=4"});
  EXPECT_THAT(text, HasSubstr("6 mistakes in the settings:\n"
                              "  run.toml:12: unknown key train.seeds; did you mean train.seed?\n"
                              "  run.toml:14: unknown key optimizer.lr; did you mean optimizer.learning_rate?\n"
                              "  run.toml:15: optimizer.clip is -1, expected a number from 0 to 1e+30\n"
                              "  run.toml:17: eval.every is \"often\", expected an integer\n"
                              "  run.toml:19: unknown key model2.dim; did you mean model.hidden_size?\n"
                              "  --set train.step=4: unknown key train.step; did you mean train.steps?"));
}

TEST(Mistakes, AKeyUnderAnotherNameIsNotMissingToo) {
  Settings settings = Settings::parse(
      "[data]\nseq_len = 32\nrows_per_step = 4\n[model]\nvocab_size = 9\nhidden_size = 8\nnum_hidden_layers = 1\n"
      "num_attention_heads = 1\nintermediate_size = 8\n[train]\nsteps = 3\n",
      "run.toml");
  EXPECT_EQ(
      test::error_of<UsageError>([&] { read_run_config(settings, [](const std::string&) { return int64_t{9}; }); }),
      "run.toml:2: unknown key data.seq_len; did you mean data.sequence_length?");
}

TEST(Mistakes, OneAloneIsOneSentence) {
  EXPECT_EQ(refusal("[optimizer]\nlr = 0.1\n"),
            "run.toml:13: unknown key optimizer.lr; did you mean optimizer.learning_rate?");
}

TEST(Mistakes, OfNamesComeWithThePlace) {
  EXPECT_THAT(refusal("", {"model.method=gshrad", "model.preset=none-such"}),
              AllOf(HasSubstr("--set model.method=gshrad: model.method: there is no method gshrad"),
                    HasSubstr("--set model.preset=none-such: model.preset: there is no preset none-such")));
}

TEST(Mistakes, OpenNoDataset) {
  Settings settings = Settings::parse("[data]\ntrain = \"somewhere\"\nsequence_length = 0\n", "run.toml");
  const std::string text = test::error_of<UsageError>(
      [&] { read_run_config(settings, [](const std::string&) -> int64_t { throw Error("opened"); }); });
  EXPECT_THAT(text, AllOf(HasSubstr("data.sequence_length is 0"), HasSubstr("data.rows_per_step is missing"),
                          HasSubstr("model.hidden_size is missing"), HasSubstr("train.steps is missing"),
                          Not(HasSubstr("opened"))));
}

TEST(Mistakes, WordsThatPeopleTypeMeanTheirKeys) {
  const std::pair<const char*, const char*> words[] = {{"lr", "optimizer.learning_rate"},
                                                       {"batch_size", "data.rows_per_step"},
                                                       {"epochs", "train.epochs"},
                                                       {"train.num_epochs", "train.epochs"},
                                                       {"dim", "model.hidden_size"},
                                                       {"model.d_model", "model.hidden_size"},
                                                       {"layers", "model.num_hidden_layers"},
                                                       {"model.n-layer", "model.num_hidden_layers"},
                                                       {"experts", "model.n_routed_experts"},
                                                       {"model.num_experts", "model.n_routed_experts"},
                                                       {"heads", "model.num_attention_heads"},
                                                       {"vocab", "model.vocab_size"},
                                                       {"seq_len", "data.sequence_length"},
                                                       {"model.context_length", "data.sequence_length"},
                                                       {"model.top_k", "model.num_experts_per_tok"},
                                                       {"train.max_steps", "train.steps"},
                                                       {"train.grad_clip", "optimizer.clip"},
                                                       {"train.gradient_checkpointing", "train.recompute"},
                                                       {"train.micro_batch_size", "data.microbatch_rows"},
                                                       {"OUTPUT_DIR", "run.dir"},
                                                       {"optimizer.Warmup", "schedule.warmup_steps"}};
  for (const auto& [word, key] : words) {
    EXPECT_THAT(refusal("", {fmt::format("{}=1", word)}),
                HasSubstr(fmt::format("unknown key {}; did you mean {}?", word, key)));
  }
}

TEST(Mistakes, AWordMeansOneKey) {
  std::map<std::string, std::string> meant;
  for (const ListedKey& key : all_run_keys()) {
    const std::string words = key.info->also;
    for (size_t begin = 0; begin < words.size();) {
      const size_t end = std::min(words.find(' ', begin), words.size());
      const std::string word = words.substr(begin, end - begin);
      EXPECT_TRUE(meant.emplace(word, key.info->key).second) << word << ": " << meant[word] << ", " << key.info->key;
      begin = end + 1;
    }
  }
}

}  // namespace
}  // namespace moe
