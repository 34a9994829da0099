// The four formats of conversations, and what is refused.

#include "chat/conversation_formats.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TrainingConversation parsed(const std::string& json) {
  return parse_conversation(parse_json(json, "a.jsonl:1"), "a.jsonl:1");
}

std::string error_of(const std::string& json) {
  return test::error_of<Error>([&] { parsed(json); });
}

const ChatMessage kQuestion{.role = "user", .content = "Hi"}, kAnswer{.role = "assistant", .content = "Hello."};
const ChatMessage kRules{.role = "system", .content = "Be short."};

TEST(Conversations, TheSameConversationInEachFormat) {
  for (const char* json : {
           R"({"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"},
               {"role": "assistant", "content": "Hello."}]})",
           R"({"conversations": [{"from": "system", "value": "Be short."}, {"from": "human", "value": "Hi"},
               {"from": "gpt", "value": "Hello."}], "id": 7})",
           R"({"system": "Be short.", "conversations": [{"role": "user", "content": "Hi"},
               {"from": "assistant", "value": "Hello."}]})",
           R"({"system": "Be short.", "instruction": "Hi", "input": "", "output": "Hello."})",
           R"({"prompt": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}],
               "completion": [{"role": "assistant", "content": "Hello."}]})",
           R"({"system": "Be short.", "prompt": "Hi", "completion": "Hello."})",
           R"({"system": "Be short.", "messages": [{"role": "user", "content": "Hi"},
               {"role": "assistant", "content": "Hello.", "tool_calls": []}], "tools": null})",
           R"({"messages": [{"role": "system", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text":
               "short."}]}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."},
               {"role": "user", "content": "never answered"}]})",
       }) {
    const TrainingConversation found = parsed(json);
    EXPECT_THAT(found.messages, ElementsAre(kRules, kQuestion, kAnswer)) << json;
    EXPECT_THAT(found.learned, ElementsAre(false, false, true)) << json;
  }
  EXPECT_THAT(parsed(R"({"prompt": "Hi", "completion": "Hello."})").messages, ElementsAre(kQuestion, kAnswer));
}

TEST(Conversations, AlpacasInputFollowsItsInstruction) {
  EXPECT_EQ(parsed(R"({"instruction": "Add", "input": "1 2", "output": "3"})").messages[0].content, "Add\n1 2");
  EXPECT_EQ(parsed(R"({"instruction": "", "input": "1 2", "output": "3"})").messages[0].content, "1 2");
  const TrainingConversation turns = parsed(R"({"history": [["Hi", "Hello."]], "instruction": "Add", "output": "3"})");
  EXPECT_THAT(turns.messages, ElementsAre(kQuestion, kAnswer, ChatMessage{.role = "user", .content = "Add"},
                                          ChatMessage{.role = "assistant", .content = "3"}));
  EXPECT_THAT(turns.learned, ElementsAre(false, true, false, true));
}

TEST(Conversations, AnAnswerOfWeightZeroIsNotLearned) {
  EXPECT_THAT(parsed(R"({"messages": [{"role": "user", "content": "Hi"},
                         {"role": "assistant", "content": "Hm.", "weight": 0}, {"role": "user", "content": "Hi"},
                         {"role": "assistant", "content": "Hello.", "weight": 1}]})")
                  .learned,
              ElementsAre(false, false, false, true));
}

TEST(Conversations, WhatIsNoneIsRefusedByName) {
  EXPECT_THAT(error_of("[1]"), HasSubstr("a.jsonl:1: found an array, expected an object"));
  EXPECT_THAT(error_of(R"({"text": "Hi"})"), HasSubstr("a.jsonl:1: it has no conversation; expected the member"));
  EXPECT_THAT(error_of(R"({"messages": "Hi"})"), HasSubstr("messages is a string, expected a list"));
  EXPECT_THAT(error_of(R"({"messages": []})"), HasSubstr("there is no answer"));
  EXPECT_THAT(error_of(R"({"messages": [7]})"), HasSubstr("message 0: found an integer, expected an object"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "tool", "content": "x"}]})"), HasSubstr("the role is \"tool\""));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "assistant", "content": ""}]})"), HasSubstr("the answer is empty"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "assistant"}]})"), HasSubstr("content"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]})"),
              HasSubstr("message 1: a system message must be the first one"));
  EXPECT_THAT(error_of(R"({"system": "x", "messages": [{"role": "system", "content": "x"}]})"),
              HasSubstr("message 1: a system message must be the first one"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user", "content": "x"},
                           {"role": "assistant", "content": "y", "weight": 0.5}]})"),
              HasSubstr("message 1: the weight is 0.5, expected 0 or 1"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user", "content": "x"},
                           {"role": "assistant", "content": null, "tool_calls": [{"type": "function"}]}]})"),
              HasSubstr("message 1: it has tool_calls, which are not known here"));
  EXPECT_THAT(error_of(R"({"tools": [{}], "messages": [{"role": "user", "content": "x"},
                           {"role": "assistant", "content": "y"}]})"),
              HasSubstr("a.jsonl:1: it has tools"));
  EXPECT_THAT(error_of(R"({"instruction": "x"})"), HasSubstr("output"));
  EXPECT_THAT(error_of(R"({"instruction": "x", "output": 3})"), HasSubstr("output"));
  EXPECT_THAT(error_of(R"({"instruction": "x", "output": "y", "history": [["a"]]})"), HasSubstr("[question, answer]"));
}

Preference preference(const std::string& json) { return parse_preference(parse_json(json, "a.jsonl:1"), "a.jsonl:1"); }

TEST(Preferences, TheSamePairInEachForm) {
  const ChatMessage other{.role = "assistant", .content = "Go away."};
  for (const char* json : {
           R"({"system": "Be short.", "prompt": "Hi", "chosen": "Hello.", "rejected": "Go away."})",
           R"({"prompt": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}],
               "chosen": [{"role": "assistant", "content": "Hello."}], "rejected": "Go away."})",
           R"({"system": "Be short.", "prompt": [{"from": "human", "value": "Hi"}],
               "chosen": [{"from": "gpt", "value": "Hello."}], "rejected": [{"from": "gpt", "value": "Go away."}]})",
           R"({"prompt": "Hi", "chosen": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"},
               {"role": "assistant", "content": "Hello."}], "rejected": [{"role": "system", "content": "Be short."},
               {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go away."}]})",
       }) {
    const Preference found = preference(json);
    EXPECT_THAT(found.chosen.messages, ElementsAre(kRules, kQuestion, kAnswer)) << json;
    EXPECT_THAT(found.rejected.messages, ElementsAre(kRules, kQuestion, other)) << json;
    EXPECT_THAT(found.chosen.learned, ElementsAre(false, false, true)) << json;
  }
}

TEST(Preferences, MistakesAreNamed) {
  const auto refusal = [](const std::string& json) { return test::error_of<Error>([&] { preference(json); }); };
  EXPECT_THAT(refusal("[]"), HasSubstr("expected an object with a preference"));
  EXPECT_THAT(refusal(R"({"prompt": "Hi", "chosen": "Hello."})"), HasSubstr("expected the members prompt, chosen"));
  EXPECT_THAT(refusal(R"({"chosen": "Hello.", "rejected": "No."})"), HasSubstr("prompt"));
  EXPECT_THAT(refusal(R"({"prompt": "Hi", "chosen": "Hello.", "rejected": "Hello."})"), HasSubstr("are the same"));
  EXPECT_THAT(refusal(R"({"prompt": "Hi", "chosen": "", "rejected": "Hello."})"), HasSubstr("the answer is empty"));
  EXPECT_THAT(refusal(R"({"prompt": "Hi", "chosen": 3, "rejected": "Hello."})"), HasSubstr("chosen"));
  const std::string whole = R"([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])";
  for (const char* other : {R"([{"role": "user", "content": "Ho"}, {"role": "assistant", "content": "No."}])",
                            R"([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No."},
                                {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}])",
                            R"([{"role": "system", "content": "x"}, {"role": "user", "content": "Hi"},
                                {"role": "assistant", "content": "No."}])"}) {
    EXPECT_THAT(refusal(fmt::format(R"({{"chosen": {}, "rejected": {}}})", whole, other)),
                HasSubstr("expected two answers to one prompt"));
  }
}

}  // namespace
}  // namespace moe
