// Texts that the model writes during training.

#include "train/samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/utf8.h"
#include "chat/format.h"
#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::TinyRun;
using testing::HasSubstr;

constexpr const char* kTemplate =
    "{% for message in messages %}<{{ message.role }}>{{ message.content }};{% endfor %}{% if add_generation_prompt "
    "%}<assistant>{% endif %}";

/// Ids of ordinary tokens: unlike EOS, they do not end a text by themselves.
constexpr int32_t kAnswer = 100, kEnd = 101;

/// A dataset of one conversation, whose answers are kAnswer and end with kEnd.
void make_conversations(const TinyRun& tiny, const std::string& name) {
  const Dataset plain((tiny / "data").string());
  DatasetWriter writer(tiny / name, {.vocab_size = plain.info().vocab_size,
                                     .bos_id = -1,
                                     .eos_id = plain.info().eos_id,
                                     .tokenizer_fingerprint = plain.info().tokenizer_fingerprint,
                                     .domains = {}});
  const int32_t domain = writer.add_domain("text");
  const std::vector<int32_t> ids{5, kAnswer, kEnd, kAnswer, kEnd, kAnswer, kEnd, kAnswer, kEnd};
  writer.add_marked(ids, std::vector<uint8_t>(ids.size(), 1), domain, 9, 8);
  writer.set_answer_ends({kEnd});
  Tokenizer::load(tiny / "data").save(writer.temporary_folder());
  write_file(writer.temporary_folder() / "chat_template.jinja", kTemplate);
  writer.finish();
}

TEST(Samples, OfConversationsAreAnswersToWhatAUserSays) {
  TinyRun tiny;
  make_conversations(tiny, "chats");
  const Tokenizer tokenizer = Tokenizer::load(tiny / "chats");
  const Dataset chats((tiny / "chats").string()), texts((tiny / "data").string());
  const RunConfig run = tiny.config("unused", {"sample.prompts=[\"river\", \"the old\"]"});
  const auto words = [&](const Dataset& dataset) {
    std::vector<std::string> found;
    for (const Prompt& prompt : sample_prompts(dataset, tokenizer, run.model, run.sample)) {
      found.push_back(tokenizer.decode(prompt.ids));
    }
    return found;
  };
  EXPECT_THAT(words(chats)[0], HasSubstr("<user>river;<assistant>"));
  EXPECT_THAT(words(chats)[1], HasSubstr("<user>the old;<assistant>"));
  EXPECT_THAT(words(texts)[0], testing::Not(HasSubstr("user")));
}

TEST(Samples, OfConversationsEndWhereAnswersEnd) {
  TinyRun tiny;
  make_conversations(tiny, "chats");
  // Learned by heart. Without an end, 30 tokens would follow.
  const std::vector<std::string> keys{"data.train=" + (tiny / "chats").string(),
                                      "data.valid=",
                                      "sample.prompts=[\"river\"]",
                                      "sample.temperature=0",
                                      "sample.max_new_tokens=30",
                                      "train.steps=40",
                                      "optimizer.learning_rate=0.02"};
  tiny.train("run", keys);
  const Json last = tiny.log("run", "samples.jsonl").back();
  const Tokenizer tokenizer = Tokenizer::load(tiny / "chats");
  EXPECT_EQ(last.at("samples")[0].at("text"), valid_utf8(tokenizer.decode(std::vector<int32_t>{kAnswer})));
}

}  // namespace
}  // namespace moe
