// Which tokens of a conversation training learns: for templates of several kinds, by place and not by words.

#include "chat/marked.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "template/chat_template.h"
#include "tests/support/temporary_folder.h"
#include "tokenizer/trainer.h"

namespace moe {
namespace {

using testing::HasSubstr;

constexpr const char* kTurn = "<｜reserved_0｜>";

/// As in ChatML: every message is a header, a content and a special token, and a line end after it.
const std::string kMarked = std::string("{% for m in messages %}{{ m.role + ':' + m.content + '") + kTurn +
                            "\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

class Marking : public testing::Test {
 protected:
  Marking() : pool_(1), tokenizer_(TokenizerTrainer({.vocab_size = kLeastVocabulary}, pool_).finish()) {}

  /// What is learned, as text with special tokens; parts that are apart have a bar between them.
  std::string learned(const MarkedChat& chat) const {
    std::string text;
    for (size_t i = 0; i < chat.ids.size(); ++i) {
      if (chat.marks[i] == 0) continue;
      if (i > 0 && chat.marks[i - 1] == 0 && !text.empty()) text += "|";
      text += tokenizer_.token_bytes(chat.ids[i]);
    }
    return text;
  }
  std::string all(const MarkedChat& chat) const { return tokenizer_.decode(chat.ids, {.keep_special = true}); }
  std::optional<MarkedChat> mark(std::string_view source, const TrainingConversation& conversation,
                                 const MarkingOptions& options = {}) {
    const ChatFormat format(source, "the template", tokenizer_);
    const ChatMarker marker(format, tokenizer_, options);
    auto chat = marker.mark(conversation, "a.jsonl:1");
    cut_ = marker.cut(), left_out_ = marker.left_out(), without_end_ = marker.without_end();
    ends_ = marker.ends();
    return chat;
  }
  static TrainingConversation two_turns() {
    return {.messages = {{"user", "one"}, {"assistant", "1"}, {"user", "assistant: 1"}, {"assistant", "2, or 1"}},
            .learned = {false, true, false, true}};
  }

  ThreadPool pool_;
  Tokenizer tokenizer_;
  int64_t cut_ = 0, left_out_ = 0, without_end_ = 0;
  std::vector<int32_t> ends_;
  const std::string bos_{kTrainedBos}, eos_{kTrainedEos};
};

TEST_F(Marking, DeepSeekMoEsAnswersAreLearnedWithTheirEos) {
  const auto chat = mark(jinja::deepseek_moe_template(), two_turns());
  ASSERT_TRUE(chat);
  EXPECT_EQ(all(*chat), bos_ + "User: one\n\nAssistant: 1" + eos_ + "User: assistant: 1\n\nAssistant: 2, or 1" + eos_);
  EXPECT_EQ(learned(*chat), " 1" + eos_ + "| 2, or 1" + eos_);
  EXPECT_EQ(chat->learned_bytes, 2 + 8);
  EXPECT_EQ(without_end_, 0);
}

TEST_F(Marking, WhatFollowsTheEndOfAnAnswerIsNotLearned) {
  const auto chat = mark(kMarked, two_turns());
  ASSERT_TRUE(chat);
  EXPECT_EQ(all(*chat), bos_ + "user:one" + kTurn + "\nassistant:1" + kTurn + "\nuser:assistant: 1" + kTurn +
                            "\nassistant:2, or 1" + kTurn)
      << "it ends where nothing is learned any more";
  EXPECT_EQ(learned(*chat), std::string("1") + kTurn + "|2, or 1" + kTurn);
}

TEST_F(Marking, TheLastAnswerAlone) {
  const auto chat = mark(kMarked, two_turns(), {.answers = LearnedAnswers::last});
  EXPECT_EQ(learned(*chat), std::string("2, or 1") + kTurn);
}

TEST_F(Marking, AnswersWithoutWeightAreOnlyRead) {
  TrainingConversation conversation = two_turns();
  conversation.learned = {false, false, false, true};
  EXPECT_EQ(learned(*mark(kMarked, conversation)), std::string("2, or 1") + kTurn);
  conversation.learned = {false, true, false, false};
  EXPECT_EQ(learned(*mark(kMarked, conversation)), std::string("1") + kTurn);
  conversation.learned = {false, false, false, false};
  EXPECT_FALSE(mark(kMarked, conversation));
  EXPECT_EQ(left_out_, 1);
}

TEST_F(Marking, ATemplateWithoutAnEndGetsEosAfterEachAnswer) {
  const auto chat = mark(
      "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
      two_turns());
  EXPECT_EQ(learned(*chat), "1\n" + eos_ + "|2, or 1\n" + eos_);
  EXPECT_EQ(without_end_, 2);
}

TEST_F(Marking, TheTextOfAnEndInsideAnAnswerDoesNotEndIt) {
  TrainingConversation conversation = two_turns();
  conversation.messages[1].content = "1" + eos_ + "b";
  conversation.messages[3].content = std::string("2") + kTurn;
  const std::string no_end =
      "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";
  EXPECT_EQ(learned(*mark(no_end, conversation)), "1" + eos_ + "b\n" + eos_ + "|2" + kTurn + "\n" + eos_);
  EXPECT_EQ(without_end_, 2);
  EXPECT_EQ(learned(*mark(kMarked, conversation)), "1" + eos_ + "b" + kTurn + "|2" + kTurn + kTurn);
  EXPECT_EQ(without_end_, 0);
  const std::string blocks =
      std::string(
          "{% for m in messages %}{{ m.role + ':' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
          "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '") +
      kTurn + "\\n' }}{% endfor %}";
  EXPECT_EQ(learned(*mark(blocks, conversation)), "1" + eos_ + "b" + kTurn + "|2" + kTurn + kTurn);
  // The same where the template changes what an answer says.
  const std::string trims =
      "{% for m in messages %}{{ m.role + ':' + (m.content | trim) + ' ' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";
  conversation.messages[1].content = " x" + eos_ + "x \n";
  EXPECT_EQ(learned(*mark(trims, conversation)), "x" + eos_ + "x " + eos_ + "|2" + kTurn + " " + eos_);
  EXPECT_EQ(ends_, (std::vector<int32_t>{*tokenizer_.eos()})) << "what ends answers, and not what is inside them";
}

TEST_F(Marking, ASpecialTokenBeforeAnAnswerDoesNotEndIt) {
  const std::string headers =
      std::string("{% for m in messages %}{{ '") + kTurn + "' + m.role + ':' + m.content }}{% endfor %}";
  TrainingConversation conversation{.messages = {{"user", "one"}, {"assistant", "1"}}, .learned = {false, true}};
  EXPECT_EQ(learned(*mark(headers, conversation)), kTurn + ("assistant:1" + eos_));
  EXPECT_EQ(without_end_, 1);
}

TEST_F(Marking, KnowsBeforehandWhetherTheTemplateEndsAnswers) {
  const auto ends = [&](std::string_view source) {
    const ChatFormat format(source, "the template", tokenizer_);
    const ChatMarker marker(format, tokenizer_, {});
    const bool result = marker.template_ends_answers();
    EXPECT_EQ(marker.without_end(), 0) << "it counts conversations alone";
    return result;
  };
  EXPECT_TRUE(ends(jinja::deepseek_moe_template()));
  EXPECT_TRUE(ends(kMarked));
  EXPECT_FALSE(ends("{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}"));
  EXPECT_FALSE(ends(std::string("{% for m in messages %}{{ m.role + ':' + m.content }}{% endfor %}")));
  EXPECT_TRUE(ends("{{ raise_exception('no') }}")) << "the first conversation says what is wrong";
}

TEST_F(Marking, GenerationBlocksSayWhatIsLearned) {
  const std::string blocks =
      std::string(
          "{% for m in messages %}{{ m.role + ':' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
          "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '") +
      kTurn + "\\n' }}{% endfor %}";
  const auto chat = mark(blocks, two_turns());
  ASSERT_TRUE(chat);
  EXPECT_EQ(learned(*chat), std::string("1") + kTurn + "|2, or 1" + kTurn) << "with the special token behind the block";
  EXPECT_EQ(without_end_, 0);
  EXPECT_EQ(all(*chat), all(*mark(kMarked, two_turns()))) << "the same text";
}

TEST_F(Marking, ATemplateThatChangesEarlierTextIsRefused) {
  const std::string forgets = "{{ messages[-1].role + ':' + messages[-1].content }}";
  EXPECT_THAT(test::error_of<Error>([&] { mark(forgets, two_turns()); }),
              HasSubstr("a.jsonl:1: with answer 1 the chat template changes what it wrote before it"));
}

TEST_F(Marking, ATemplateThatLeavesAnswersOutIsRefused) {
  const std::string end = std::string("{{ '") + kTurn + "' }}";
  for (const std::string& source :
       {std::string("the same text for everybody"), std::string(),
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}" + end + "{% endif %}{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}{% generation %}" + end +
            "{% endgeneration %}{% endif %}{% endfor %}"}) {
    EXPECT_THAT(test::error_of<Error>([&] { mark(source, two_turns()); }),
                HasSubstr("a.jsonl:1: the chat template writes nothing of an answer"))
        << source;
  }
  TrainingConversation silent = two_turns();
  silent.learned = {false, false, false, true};
  silent.messages[1].content = " ";
  EXPECT_TRUE(mark(kMarked, silent)) << "an answer that says nothing needs no text";
}

TEST_F(Marking, ALongConversationLosesItsLastTurns) {
  const auto whole = mark(kMarked, two_turns());
  const auto tokens = static_cast<int64_t>(whole->ids.size());
  EXPECT_EQ(mark(kMarked, two_turns(), {.max_tokens = tokens})->ids, whole->ids);
  EXPECT_EQ(cut_, 0);
  const auto cut = mark(kMarked, two_turns(), {.max_tokens = tokens - 1});
  EXPECT_EQ(all(*cut), bos_ + "user:one" + kTurn + "\nassistant:1" + kTurn);
  EXPECT_EQ(cut_, 1);
  EXPECT_FALSE(mark(kMarked, two_turns(), {.max_tokens = 5}));
  EXPECT_EQ(left_out_, 1);
  EXPECT_FALSE(mark(kMarked, two_turns(), {.answers = LearnedAnswers::last, .max_tokens = tokens - 1}));
}

}  // namespace
}  // namespace moe
