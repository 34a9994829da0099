// A conversation gives the answers of a new one with the same messages, and computes only what is new.

#include "infer/conversation.h"

#include <functional>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/infer/chat_support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// The answer that a new chat gives to the same messages.
Answer anew(const std::vector<ChatMessage>& messages, const RoutingSwitches& switches = {},
            const std::string& source = kChatTemplate) {
  Chat chat(switches, 400, source);
  chat.conversation.set_messages(messages);
  return chat.again();
}

std::vector<ChatMessage> without_last(std::vector<ChatMessage> messages) {
  messages.pop_back();
  return messages;
}

TEST(Conversation, AnswersAsANewOneAndReusesWhatItHas) {
  Chat chat;
  const Answer one = chat.ask("hello");
  EXPECT_EQ(chat.prompt, "<b>U: hello\nA:");
  EXPECT_EQ(one.reused_tokens, 0);
  EXPECT_EQ(one.prompt_tokens, static_cast<int64_t>(chat.prompt_ids.size()));
  const Ids cached = chat.engine.ids();
  const Answer two = chat.ask("and then");
  EXPECT_THAT(chat.prompt, StartsWith("<b>U: hello\nA: " + one.text));
  int64_t common = 0;
  while (static_cast<size_t>(common) < cached.size() &&
         chat.prompt_ids[static_cast<size_t>(common)] == cached[static_cast<size_t>(common)]) {
    ++common;
  }
  EXPECT_EQ(two.reused_tokens, common);
  EXPECT_GE(common, one.prompt_tokens);
  EXPECT_EQ(two.text, anew(without_last(chat.conversation.messages())).text);
  EXPECT_EQ(chat.conversation.messages().size(), 4u);
  EXPECT_NE(one.text, "");
}

TEST(Conversation, TheFirstBlanksOfAnAnswerAreNeitherShownNorKeptTwice) {
  Chat chat;
  std::string shown;
  chat.more.text = [&](std::string_view piece) { shown += piece; };
  for (const char* question : {"a", "b", "c", "d", "e"}) {
    shown.clear();
    const Answer answer = chat.ask(question);
    EXPECT_FALSE(shown.starts_with(' ') || shown.starts_with('\n')) << shown;
    EXPECT_THAT(answer.text, testing::EndsWith(shown));
    EXPECT_EQ(chat.conversation.messages().back().content, answer.text);
  }
}

TEST(Conversation, GuessedTokensChangeNoAnswer) {
  int64_t accepted = 0;
  for (const double temperature : {0.0, 0.4}) {
    Chat plain, guessing;
    for (Chat* chat : {&plain, &guessing}) {
      chat->options().max_new_tokens = 60;
      chat->options().sampling = {.temperature = temperature, .seed = 3};
    }
    guessing.options().prompt_lookup = 5;
    for (const char* question : {"abab abab abab", "and again abab abab", "abab"}) {
      const Answer expected = plain.ask(question), found = guessing.ask(question);
      EXPECT_EQ(found.text, expected.text);
      EXPECT_EQ(found.new_tokens, expected.new_tokens);
      EXPECT_EQ(guessing.engine.ids(), plain.engine.ids()) << "wrong guesses are forgotten";
      EXPECT_EQ(guessing.conversation.experts_used().size(), plain.conversation.experts_used().size());
      for (size_t i = 0; i < plain.conversation.experts_used().size(); ++i) {
        EXPECT_EQ(guessing.conversation.experts_used()[i].chosen, plain.conversation.experts_used()[i].chosen);
      }
      accepted += found.accepted_tokens;
      EXPECT_LE(found.accepted_tokens, found.drafted_tokens);
    }
  }
  EXPECT_GT(accepted, 0);
}

/// Questions, other draws, stops, undone turns and routing in any order, with every option of sampling.
TEST(Conversation, AnyWalkAnswersAsANewConversationWithTheSameMessages) {
  const std::vector<SamplingOptions> samplings{{.seed = 3},
                                               {.temperature = 0},
                                               {.temperature = 0.7, .top_k = 5, .seed = 4},
                                               {.temperature = 1.3, .top_p = 0.8, .min_p = 0.02, .seed = 5},
                                               {.repetition_penalty = 1.4, .seed = 6},
                                               {.presence_penalty = 0.5, .frequency_penalty = 0.4, .seed = 7}};
  const std::vector<RoutingSwitches> routings{
      {}, {.masked = {{.layer = 1, .experts = {0, 4}}}}, {.masked = {{.layer = 2, .experts = {3}}}}, {.skip = 1}};
  const std::vector<std::string> questions{"hello", "what is this", "a",
                                           "and a much longer question than all the others"};
  const Random random(21, hash_name("walk"));
  uint64_t draw = 0;
  const auto below = [&](size_t most) { return static_cast<size_t>(random.below(draw++, most)); };
  int64_t reused = 0, stopped = 0;
  for (const SamplingOptions& sampling : samplings) {
    Chat chat({}, 700);
    chat.options().sampling = sampling;
    RoutingSwitches switches;
    int other_draws = 0;
    for (int step = 0; step < 12; ++step) {
      chat.options().prompt_lookup = static_cast<int64_t>(below(2) * 4);
      if (below(4) == 0) chat.engine.set_switches(switches = routings[below(routings.size())]);
      if (below(5) == 0 && chat.conversation.undo()) other_draws = 0;
      if (below(4) == 0) {
        size_t left = 1 + below(6);
        chat.more.stop = [left]() mutable { return left-- == 0; };
      }
      Answer answer;
      if (chat.conversation.has_question() && below(3) == 0) {
        const bool others = below(2) == 0;
        answer = chat.again(others);
        other_draws += others ? 1 : 0;
      } else {
        answer = chat.ask(questions[below(questions.size())]);
        other_draws = 0;
      }
      chat.more.stop = {};
      ASSERT_TRUE(answer.kept);
      Chat fresh(switches, 700);
      fresh.options().sampling = sampling;
      fresh.conversation.set_messages(without_last(chat.conversation.messages()));
      Answer expected = fresh.again();
      for (int i = 0; i < other_draws; ++i) expected = fresh.again(true);
      if (answer.end == AnswerEnd::interrupted) {
        EXPECT_THAT(expected.text, StartsWith(answer.text));
        ++stopped;
      } else {
        EXPECT_EQ(answer.text, expected.text);
        EXPECT_EQ(answer.new_tokens, expected.new_tokens);
        EXPECT_EQ(chat.engine.ids(), fresh.engine.ids());
        for (size_t i = 0; i < 2; ++i) {
          EXPECT_EQ(chat.conversation.experts_used()[i].chosen, fresh.conversation.experts_used()[i].chosen);
        }
      }
      reused += answer.reused_tokens;
    }
  }
  EXPECT_GT(reused, 500);
  EXPECT_GT(stopped, 5);
}

/// The CPU's memory, as a device whose steps are worth recording.
class DeviceOfSteps final : public Device {
 public:
  explicit DeviceOfSteps(Device& memory) : memory_(memory) {}
  void* allocate(size_t bytes, const std::string& purpose) override { return memory_.allocate(bytes, purpose); }
  void release(void* data) override { memory_.release(data); }
  void upload(void* device, const void* host, size_t bytes) override { memory_.upload(device, host, bytes); }
  void download(void* host, const void* device, size_t bytes) override { memory_.download(host, device, bytes); }
  void synchronize() override { memory_.synchronize(); }
  DeviceInfo info() const override { return memory_.info(); }
  bool records() const override { return true; }

 private:
  Device& memory_;
};

TEST(Conversation, ADeviceThatTakesStepsGivesTheSameAnswersAndExperts) {
  Chat plain, other;
  DeviceOfSteps device(*other.cpu.device);
  ChatEngine engine(other.loaded, &other.tokenizer, device, *other.cpu.backend, {.most_tokens = 400});
  Conversation steps(other.format, engine, plain.options());
  const auto expect_same = [&](const std::function<Answer(Conversation&, const AnswerEvents&)>& answer, size_t most) {
    const auto stopping = [&] { return AnswerEvents{.stop = [left = most]() mutable { return left-- == 0; }}; };
    const Answer expected = answer(plain.conversation, stopping()), found = answer(steps, stopping());
    EXPECT_EQ(found.text, expected.text);
    EXPECT_EQ(found.end, expected.end);
    EXPECT_EQ(found.reused_tokens, expected.reused_tokens);
    EXPECT_EQ(steps.messages(), plain.conversation.messages());
    EXPECT_EQ(engine.ids(), plain.engine.ids());
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(steps.experts_used()[i].chosen, plain.conversation.experts_used()[i].chosen);
    }
    const auto tokens = static_cast<int64_t>(engine.ids().size());
    const auto a = engine.chosen(0, tokens), b = plain.engine.chosen(0, tokens);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  };
  const auto ask = [](const char* question) {
    return [question](Conversation& one, const AnswerEvents& events) { return one.ask(question, events); };
  };
  const auto again = [](Conversation& one, const AnswerEvents& events) { return one.answer_again(true, events); };
  expect_same(ask("hello"), 100);
  expect_same(ask("what is this"), 5);  // stopped while a step is queued
  expect_same(again, 100);
  const RoutingSwitches masked{.masked = {{.layer = 1, .experts = {0, 1}}}};
  for (const RoutingSwitches& switches : {masked, RoutingSwitches{.experts_per_token = 8}, RoutingSwitches{}}) {
    expect_same(ask("and now"), 3);
    plain.engine.set_switches(switches);
    engine.set_switches(switches);
    EXPECT_EQ(engine.ids(), plain.engine.ids());
    expect_same(again, 100);
  }
  for (Conversation* one : {&plain.conversation, &steps}) {
    one->options().sampling = {.repetition_penalty = 1.3, .temperature = 0.7, .top_k = 9, .seed = 5};
  }
  expect_same(ask("with other options"), 100);
  EXPECT_GT(engine.counts().steps, 50);
  EXPECT_EQ(plain.engine.counts().steps, 0);
}

TEST(Conversation, APassThatFailsLeavesTheMessagesAsTheyWere) {
  Chat chat;
  FailingBackend failing(*chat.cpu.backend);
  ChatEngine engine(chat.loaded, &chat.tokenizer, *chat.cpu.device, failing, {.most_tokens = 400});
  Conversation conversation(chat.format, engine, {.max_new_tokens = 12, .sampling = {.seed = 3}});
  conversation.ask("hello", {});
  const auto before = conversation.messages();
  const std::string expected = chat.ask("hello").text;
  EXPECT_EQ(before.back().content, expected);
  for (const int at : {1, 30, 70, 120}) {
    failing.fail_at(at);
    EXPECT_THROW(conversation.ask("and then", {}), Error) << at;
    EXPECT_EQ(conversation.messages(), before);
    failing.fail_at(at);
    EXPECT_THROW(conversation.answer_again(true, {}), Error) << at;
    EXPECT_EQ(conversation.messages(), before);
  }
  failing.fail_at(0);
  EXPECT_EQ(conversation.answer_again(false, {}).text, expected) << "the draws are as they were too";
  EXPECT_EQ(conversation.ask("and then", {}).text, chat.ask("and then").text);
}

TEST(Conversation, BosIsThereExactlyOnce) {
  const std::string without = std::string(kChatTemplate).substr(std::string("{{ bos_token }}").size());
  for (const bool adds : {false, true}) {
    for (const std::string& source : {std::string(kChatTemplate), without}) {
      const Tokenizer tokenizer = letters_tokenizer(adds);
      Cached cached;
      const ChatFormat format(source, "a test's template", tokenizer);
      const Ids ids = format.encode(format.prompt({{"user", "hello"}, {"assistant", "you"}, {"user", "again"}}));
      EXPECT_EQ(std::count(ids.begin(), ids.end(), kChatBos), adds || source == kChatTemplate ? 1 : 0);
      EXPECT_EQ(std::count(ids.begin(), ids.end(), kChatEos), 1);  // behind the answer
    }
  }
}

TEST(Conversation, UndoTakesTheLastTurnBack) {
  Chat chat;
  chat.ask("one");
  const auto before = chat.conversation.messages();
  const Answer two = chat.ask("two");
  EXPECT_TRUE(chat.conversation.undo());
  EXPECT_EQ(chat.conversation.messages(), before);
  EXPECT_EQ(chat.ask("two").text, two.text);
  EXPECT_TRUE(chat.conversation.undo());
  EXPECT_TRUE(chat.conversation.undo());
  EXPECT_TRUE(chat.conversation.messages().empty());
  EXPECT_FALSE(chat.conversation.undo());
  EXPECT_THAT(error_of<Error>([&] { chat.again(); }), HasSubstr("no question yet"));
}

TEST(Conversation, AnswersAgainWithOtherDrawsOrWithTheSame) {
  Chat chat;
  const Answer first = chat.ask("hello");
  EXPECT_EQ(chat.again().text, first.text);
  const Answer other = chat.again(true);
  EXPECT_NE(other.text, first.text);
  EXPECT_EQ(other.reused_tokens, other.prompt_tokens - 1);
  EXPECT_EQ(chat.again().text, other.text);
  EXPECT_EQ(chat.conversation.messages().size(), 2u);
  chat.options().sampling.temperature = 0;
  const Answer best = chat.again();
  EXPECT_EQ(chat.again(true).text, best.text);
}

TEST(Conversation, AnotherRoutingAnswersAsAChatThatHadItFromTheStart) {
  Chat chat;
  chat.ask("hello");
  const std::string plain = chat.ask("what is this").text;
  const auto question = without_last(chat.conversation.messages());
  std::set<std::string> texts{plain};
  for (const RoutingSwitches& switches :
       {RoutingSwitches{.masked = {{.layer = 1, .experts = {0, 1, 2}}}},
        RoutingSwitches{.masked = {{.layer = 2, .experts = {3, 4, 5}}}},
        RoutingSwitches{.boosted = {{.layer = 2, .expert = 7, .value = 1}, {.layer = 1, .expert = 2, .value = 1}}},
        RoutingSwitches{.experts_per_token = 8}, RoutingSwitches{}}) {
    chat.engine.set_switches(switches);
    const Answer answer = chat.again();
    EXPECT_EQ(answer.text, anew(question, switches).text);
    EXPECT_EQ(answer.text == plain, !switches.any());
    texts.insert(answer.text);
    for (const LayerUse& use : chat.conversation.experts_used()) {
      const int64_t each = switches.experts_per_token == 8 ? 8 : 3;
      EXPECT_EQ(use.choices, answer.new_tokens * each);
      EXPECT_EQ(std::accumulate(use.chosen.begin(), use.chosen.end(), int64_t{0}), use.choices);
      for (const ExpertMask& mask : switches.masked) {
        if (mask.layer != use.layer) continue;
        for (const int64_t expert : mask.experts) EXPECT_EQ(use.chosen[static_cast<size_t>(expert)], 0);
      }
      for (const ExpertBoost& boost : switches.boosted) {
        if (boost.layer != use.layer) continue;
        EXPECT_EQ(use.chosen[static_cast<size_t>(boost.expert)], answer.new_tokens);
      }
    }
  }
  EXPECT_EQ(texts.size(), 5u);
}

// The pass of the prompt's last token gives the first token of the answer, and so on.
TEST(Conversation, TheExpertsOfAnAnswerAreThoseOfThePassesThatGaveIt) {
  Chat chat;
  const Answer answer = chat.ask("hello");
  Ids ids = chat.engine.ids();
  EXPECT_EQ(static_cast<int64_t>(ids.size()), answer.prompt_tokens + answer.new_tokens - 1);
  Cached other;
  other.after(ids);
  const auto chosen = other.engine.chosen(answer.prompt_tokens - 1, static_cast<int64_t>(ids.size()));
  ASSERT_EQ(chat.conversation.experts_used().size(), 2u);
  for (size_t layer = 0; layer < 2; ++layer) {
    std::vector<int64_t> expected(9, 0);
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (i / 3 % 2 == layer) ++expected[static_cast<size_t>(chosen[i])];
    }
    EXPECT_EQ(chat.conversation.experts_used()[layer].chosen, expected);
    EXPECT_EQ(chat.conversation.experts_used()[layer].layer, static_cast<int64_t>(layer) + 1);
  }
}

TEST(Conversation, OldTurnsLeaveAFullContextAndTheSystemMessageStays) {
  Chat chat({}, 100);
  chat.conversation.set_system("be kind");
  int64_t left = 0;
  for (const char* question : {"aaaaaa", "bbbbbb", "cccccc", "dddddd", "eeeeee", "ffffff", "gggggg"}) {
    const Answer answer = chat.ask(question);
    left += answer.left;
    EXPECT_EQ(answer.left % 2, 0) << "a question leaves with its answer";
    EXPECT_THAT(chat.prompt, StartsWith("<b>S: be kind\nU: "));
    EXPECT_THAT(chat.prompt, HasSubstr(question));
    EXPECT_LE(answer.prompt_tokens + answer.new_tokens, 100);
    EXPECT_NE(answer.end, AnswerEnd::context_full);
    EXPECT_EQ(chat.again().text, answer.text);
  }
  EXPECT_GT(left, 0);
  EXPECT_EQ(chat.conversation.messages().size(), 15u);
  EXPECT_THAT(chat.prompt, Not(HasSubstr("aaaaaa")));
  for (int i = 0; i < 7; ++i) EXPECT_TRUE(chat.conversation.undo());
  chat.ask("new");
  EXPECT_EQ(chat.prompt, "<b>S: be kind\nU: new\nA:");
}

TEST(Conversation, AMessageThatNeverFitsIsRefusedAndChangesNothing) {
  Chat chat({}, 60);
  chat.ask("hello");
  const auto before = chat.conversation.messages();
  EXPECT_THAT(error_of<Error>([&] { chat.ask(std::string(80, 'x')); }),
              HasSubstr("the message has 87 tokens, but the context has 60 in all"));
  EXPECT_EQ(chat.conversation.messages(), before);
  // A template may refuse too, and so may the tokenizer.
  EXPECT_THROW(chat.ask("UPPER CASE"), Error);
  EXPECT_EQ(chat.conversation.messages(), before);
}

TEST(Conversation, SaysWhyAnAnswerEnded) {
  Chat chat({}, 40);
  chat.options().max_new_tokens = 3;
  const Answer cut = chat.ask("hello");
  EXPECT_EQ(cut.end, AnswerEnd::most_tokens);
  EXPECT_EQ(cut.new_tokens, 3);
  chat.conversation.set_messages({});
  chat.options().max_new_tokens = 30;
  const Answer full = chat.ask("xxxxxxxxxxxxxxxxxxxxxxxxx");
  EXPECT_EQ(full.prompt_tokens, 32);
  EXPECT_EQ(full.end, AnswerEnd::context_full);
  EXPECT_EQ(full.new_tokens, 8);
  // The id of the token that came third ends the text now.
  Chat ended;
  ended.options().sampling.temperature = 0;
  ended.ask("hello");
  const int32_t third = ended.engine.ids()[ended.prompt_ids.size() + 2];
  ended.options().end_ids = {third};
  const Answer stopped = ended.again();
  EXPECT_EQ(stopped.end, AnswerEnd::by_model);
  EXPECT_LE(stopped.new_tokens, 3);
}

TEST(Conversation, AStopLeavesWhatWasSaid) {
  Chat chat;
  chat.options().max_new_tokens = 200;
  int passes = 0;
  chat.more.stop = [&] { return ++passes > 4; };  // once before the prompt, then after each token
  std::string shown;
  chat.more.text = [&](std::string_view piece) { shown += piece; };
  const Answer answer = chat.ask("hello");
  EXPECT_EQ(answer.end, AnswerEnd::interrupted);
  EXPECT_TRUE(answer.kept);
  EXPECT_EQ(answer.new_tokens, 4);
  EXPECT_THAT(answer.text, testing::EndsWith(shown));
  EXPECT_EQ(chat.conversation.messages().size(), 2u);
  chat.more.stop = {};
  chat.options().max_new_tokens = 12;
  const Answer next = chat.ask("go on");
  EXPECT_EQ(next.text, anew(without_last(chat.conversation.messages())).text);
}

TEST(Conversation, AStopBeforeTheFirstTokenChangesNothing) {
  Chat chat;
  chat.ask("hello");
  const auto before = chat.conversation.messages();
  chat.more.stop = [] { return true; };
  for (const Answer& answer : {chat.ask("again"), chat.again(), chat.again(true)}) {
    EXPECT_FALSE(answer.kept);
    EXPECT_EQ(answer.end, AnswerEnd::interrupted);
    EXPECT_EQ(chat.conversation.messages(), before);
  }
}

// Some templates leave out what the model thought in earlier answers: then later prompts differ early.
TEST(Conversation, ATemplateThatRewritesEarlierAnswersKeepsOnlyTheCommonPrefix) {
  const std::string forgetful =
      "{% for m in messages %}{{ m.role[0] }}: {% if m.role == 'assistant' and not loop.last %}x{% else %}"
      "{{ m.content }}{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}";
  Chat chat({}, 400, forgetful);
  const Answer one = chat.ask("hello");
  const Answer two = chat.ask("and then");
  EXPECT_EQ(chat.prompt, "u: hello\na: x\nu: and then\na:");
  EXPECT_GE(two.reused_tokens, 11);
  EXPECT_LT(two.reused_tokens, one.prompt_tokens + 3);
  EXPECT_EQ(two.text, anew(without_last(chat.conversation.messages()), {}, forgetful).text);
}

TEST(ChatFormat, IsTheModelsOwnOrThatOfItsFamilyOrPlain) {
  TemporaryFolder folder;
  const Tokenizer tokenizer = letters_tokenizer();
  const std::vector<ChatMessage> messages{{"system", "s"}, {"user", "q"}, {"assistant", "a"}, {"user", "r"}};
  write_file(folder / "config.json", R"({"model_type": "llama"})");
  {
    const ChatFormat plain(folder.path(), tokenizer);
    EXPECT_EQ(plain.prompt(messages), "s\n\nUser: q\n\nAssistant: a\n\nUser: r\n\nAssistant:");
    EXPECT_THAT(plain.note(), HasSubstr("has no chat template, so the model continues"));
    EXPECT_THAT(plain.stop(), ElementsAre("\n\nUser:"));
    // The text of a special token is only text there.
    const Ids ids = plain.encode("<b>");
    EXPECT_EQ(std::count(ids.begin(), ids.end(), kChatBos), 0);
  }
  write_file(folder / "config.json", R"({"model_type": "deepseek"})");
  {
    const ChatFormat ours(folder.path(), tokenizer);
    EXPECT_EQ(ours.prompt(messages), "<b>s\n\nUser: q\n\nAssistant: a<e>User: r\n\nAssistant:");
    EXPECT_THAT(ours.note(), HasSubstr("the chat format of DeepSeekMoE"));
  }
  write_file(folder / "chat_template.jinja", "{% for m in messages %}[{{ m.content }}]{% endfor %}");
  {
    const ChatFormat own(folder.path(), tokenizer);
    EXPECT_EQ(own.prompt(messages), "[s][q][a][r]");
    EXPECT_EQ(own.note(), "");
    EXPECT_TRUE(own.stop().empty());
  }
}

TEST(ChatMessages, ComeBackFromTheirJson) {
  const std::vector<ChatMessage> messages{
      {"system", "be \"kind\"\n"}, {"user", "\xE4\xBD\xA0"}, {"assistant", ""}, {"user", "/x"}};
  EXPECT_EQ(parse_messages(messages_json(messages), "a file"), messages);
  EXPECT_THAT(messages_json(messages), HasSubstr("  \"messages\": [\n    {\n      \"role\": \"system\""));
  EXPECT_EQ(parse_messages(R"([{"role": "user", "content": "a"}])", "a file"),
            (std::vector<ChatMessage>{{"user", "a"}}));
  EXPECT_EQ(parse_messages(R"([{"role": "user", "content": [{"type": "text", "text": "a"},
                                                           {"type": "text", "text": "b"}]}])",
                           "a file"),
            (std::vector<ChatMessage>{{"user", "ab"}}));
}

TEST(ChatMessages, OthersAreRefusedBySentence) {
  const auto refusal = [](const char* json) { return error_of<Error>([&] { parse_messages(json, "chat.json"); }); };
  EXPECT_THAT(refusal("{}"), HasSubstr("chat.json"));
  EXPECT_THAT(refusal("7"), HasSubstr("chat.json"));
  EXPECT_THAT(refusal(R"([{"role": "tool", "content": "a"}])"), HasSubstr("expected system, user or assistant"));
  EXPECT_THAT(refusal(R"([{"role": "user"}])"), HasSubstr("chat.json: message 0"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}])"),
              HasSubstr("message 1: a system message must be the first one"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": [{"type": "image", "url": "x"}]}])"), HasSubstr("expected text"));
}

}  // namespace
}  // namespace moe::test
