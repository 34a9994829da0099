#include "cli/data_chat.h"

#include <numeric>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/random.h"
#include "base/units.h"
#include "cli/number_option.h"
#include "data/shards.h"
#include "eval/token_text.h"

namespace moe {

const char* const kChatDataHelp =
    R"(--chat reads conversations (.jsonl, .json) and marks what training learns: the answers, each with the token
that ends it. The form of a conversation follows from the members of its object: messages (OpenAI),
conversations (ShareGPT), instruction, input and output (Alpaca), or prompt and completion. The chat template
of the tokenizer writes it as text; --template names another one. --format deepseek-instruct is the format of
DeepSeekMoE's published fine-tuning script. --new-tokens adds special tokens to the tokenizer for a template that
needs them; they get the ids behind its last one, and training gives them rows. docs/finetuning.md has the details.

--preferences reads two answers to each prompt, {"prompt": ..., "chosen": ..., "rejected": ...}, for training with
train.objective = "dpo". The options of --chat apply, and --max-tokens to both conversations of a pair together.)";

namespace {

/// Reads {role: user} as an instruction and {role: assistant} as its response.
constexpr const char* kDeepseekInstruct = R"({%- if bos_token is defined %}{{ bos_token }}{% endif -%}
{%- for message in messages %}
  {%- if message['role'] == 'user' %}
    {{- "You are an AI assistant, developed by DeepSeek Company. For politically sensitive questions, security and privacy issues, you will refuse to answer.\n### Instruction:\n" + message['content'] | trim + "\n### Response:\n" }}
  {%- elif message['role'] == 'assistant' %}
    {{- message['content'] + "\n<|EOT|>" }}
  {%- else %}
    {{- raise_exception('the format deepseek-instruct has no system message') }}
  {%- endif %}
{%- endfor %}
)";
constexpr const char* kInstructEnd = "<|EOT|>";

const EncodedDocument kLeftOut{.text_bytes = 1, .left_out = true};

EncodedDocument encoded(const MarkedChat& chat, const TrainingConversation& conversation) {
  return {.ids = chat.ids,
          .marks = chat.marks,
          .text_bytes = chat.text_bytes,
          .scored_bytes = chat.learned_bytes,
          .hash = hash_name(messages_json(conversation.messages))};
}

ChatFormat format_of(const ChatDataFlags& flags, const std::string& tokenizer_path, const Tokenizer& tokenizer) {
  if (flags.format == "deepseek-instruct") {
    const auto end = tokenizer.added_token(kInstructEnd);
    if (!end || !tokenizer.is_special(*end)) {
      fail(
          "{}: it has no special token {}, which ends an answer in the format deepseek-instruct; use the tokenizer's "
          "template",
          tokenizer_path, kInstructEnd);
    }
    return ChatFormat(kDeepseekInstruct, "the format deepseek-instruct", tokenizer);
  }
  if (flags.template_file.empty()) return ChatFormat(tokenizer_path, tokenizer);
  return ChatFormat(read_file(flags.template_file), flags.template_file, tokenizer);
}

}  // namespace

void add_chat_data_options(CLI::App& command, ChatDataFlags& flags) {
  command.add_flag("--chat", flags.chat, "read conversations, and learn their answers");
  command.add_flag("--preferences", flags.preferences,
                   "read two answers to each prompt, and learn to prefer the first");
  command
      .add_option("--new-tokens", flags.new_tokens,
                  "with --chat or --preferences: special tokens that the tokenizer gets; may be repeated")
      ->type_name("TOKEN")
      ->allow_extra_args(false);
  command.add_option("--template", flags.template_file, "with --chat: a file with the chat template (Jinja)")
      ->type_name("FILE");
  command
      .add_option("--format", flags.format,
                  "with --chat: template (the tokenizer's or --template), or deepseek-instruct")
      ->check(CLI::IsMember({"template", "deepseek-instruct"}));
  command.add_option("--answers", flags.answers, "with --chat: learn every answer, or the last one of a conversation")
      ->check(CLI::IsMember({"every", "last"}));
  add_number(command, "--max-tokens", flags.max_tokens, {.least = 0, .most = int64_t{1} << 30},
             "with --chat: a longer conversation loses its last turns, or is left out; 0: no limit");
  add_number(command, "--show", flags.show, {.least = 0, .most = 1 << 20},
             "with --chat: print so many conversations, token by token");
}

void check_chat_data_options(const ChatDataFlags& flags) {
  const auto need = [&](bool given, const char* option) {
    if (given && !flags.conversations()) fail_usage("{} belongs to conversations: give --chat, too", option);
  };
  need(!flags.template_file.empty(), "--template");
  need(flags.format != "template", "--format");
  need(flags.answers != "every", "--answers");
  need(!flags.new_tokens.empty(), "--new-tokens");
  if (flags.chat && flags.preferences) fail_usage("--chat and --preferences read different files; give one");
  if (flags.preferences && flags.answers != "every") {
    fail_usage("--answers {}: of a preference the last answer is learned; leave the option out", flags.answers);
  }
  need(flags.max_tokens != 0, "--max-tokens");
  need(flags.show != 0, "--show");
  if (!flags.template_file.empty() && flags.format != "template") {
    fail_usage("--template and --format {} name two formats; give one", flags.format);
  }
}

ChatData::ChatData(const ChatDataFlags& flags, const std::string& tokenizer_path, const Tokenizer& tokenizer)
    : flags_(flags),
      format_(format_of(flags, tokenizer_path, tokenizer)),
      marker_(format_, tokenizer,
              {.answers = flags.preferences || flags.answers == "last" ? LearnedAnswers::last : LearnedAnswers::every,
               .max_tokens = flags.preferences ? 0 : flags.max_tokens}) {
  if (!format_.note().empty()) log_info("{}", format_.note());
  if (marker_.template_ends_answers()) return;
  log_warning("{} puts no special token after an answer, so {}", format_.name(),
              tokenizer.eos() ? fmt::format("each answer ends with EOS, {}", tokenizer.token_bytes(*tokenizer.eos()))
                              : "a model will not learn where an answer ends; use a template with an end token");
}

EncodeFunction ChatData::encoder() const {
  return [this](const RawDocument& document) -> EncodedDocument {
    if (!document.error.empty()) fail("{}", document.error);
    if (!document.is_json) fail("{}: it is a text, expected a conversation (.jsonl or .json)", document.where);
    const Json object = parse_json(document.bytes, document.where);
    return flags_.preferences ? encode_preference(object, document.where) : encode_conversation(object, document.where);
  };
}

EncodedDocument ChatData::encode_conversation(const Json& object, const std::string& where) const {
  const TrainingConversation conversation = parse_conversation(object, where);
  const auto chat = marker_.mark(conversation, where);
  return chat ? encoded(*chat, conversation) : kLeftOut;
}

EncodedDocument ChatData::encode_preference(const Json& object, const std::string& where) const {
  const Preference preference = parse_preference(object, where);
  const auto chosen = marker_.mark(preference.chosen, where), rejected = marker_.mark(preference.rejected, where);
  if (!chosen || !rejected) return kLeftOut;
  if (flags_.max_tokens > 0 && static_cast<int64_t>(chosen->ids.size() + rejected->ids.size()) > flags_.max_tokens) {
    ++long_pairs_;
    return kLeftOut;
  }
  EncodedDocument pair = encoded(*chosen, preference.chosen);
  pair.others.push_back(encoded(*rejected, preference.rejected));
  return pair;
}

void ChatData::save_template(const fs::path& folder) const {
  const bool of_tokenizer = flags_.format == "template" && flags_.template_file.empty() && format_.note().empty();
  if (!of_tokenizer) write_file(folder / "chat_template.jinja", format_.source());
}

void ChatData::report(const BuildReport& built) const {
  if (long_pairs_ > 0) {
    log_warning("{} left out: the two conversations of each have more than {}", counted(long_pairs_.load(), "pair"),
                counted(flags_.max_tokens, "token"));
  }
  const int64_t left_out = marker_.left_out();
  if (built.written == 0) {
    if (flags_.preferences && long_pairs_ > 0) fail("no pair can be used; raise --max-tokens");
    fail("no conversation can be used: {} left out, because {}", counted(left_out, "conversation"),
         flags_.max_tokens > 0
             ? fmt::format("no learned answer ends within {}; raise --max-tokens", counted(flags_.max_tokens, "token"))
             : "no answer has a weight");
  }
  if (marker_.cut() > 0) {
    log_info("{} of more than {}: the last turns are cut", counted(marker_.cut(), "conversation"),
             counted(flags_.max_tokens, "token"));
  }
  if (left_out > 0) log_warning("{} left out: no learned answer that fits", counted(left_out, "conversation"));
  if (marker_.without_end() > 0 && marker_.template_ends_answers()) {  // else the warning before the work says it
    log_info("the template puts no special token after {}, so EOS was added there",
             counted(marker_.without_end(), "answer"));
  }
}

void show_conversations(const std::string& folder, int64_t count) {
  const Dataset dataset(folder);
  const Tokenizer tokenizer = Tokenizer::load(folder);
  for (int64_t document = 0; document < std::min(count, dataset.count()); ++document) {
    const int64_t length = dataset.length(document);
    std::vector<int32_t> ids(static_cast<size_t>(length));
    std::vector<uint8_t> marks(ids.size());
    dataset.copy_tokens(document, 0, length, ids.data());
    dataset.copy_marks(document, 0, length, marks.data());
    print_output("\nconversation {}: {}, {} learned\n{:>8} {:<24} {:>8} {:>7}\n", document, counted(length, "token"),
                 std::accumulate(marks.begin(), marks.end(), int64_t{0}), "id", "token", "label", "weight");
    for (size_t i = 0; i < ids.size(); ++i) {
      const std::string label = marks[i] == 0 ? "-" : std::to_string(ids[i]);
      print_output("{:>8} {:<24} {:>8} {:>7}\n", ids[i], readable_token(tokenizer, ids[i]), label, marks[i]);
    }
  }
}

}  // namespace moe
