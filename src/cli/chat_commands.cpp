#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/output.h"
#include "base/printable.h"
#include "base/units.h"
#include "cli/chat_experts.h"
#include "cli/chat_session.h"
#include "cli/chat_settings.h"
#include "cli/routing_option.h"
#include "cli/unknown_words.h"

namespace moe {
namespace {

struct Command {
  std::string_view name;
  std::string_view arguments;
  std::string_view help;
  void (*run)(ChatSession&, const std::string& arguments);
  bool takes_none() const { return arguments.empty(); }
};

constexpr std::string_view kBlanks = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (text = trimmed(text); !text.empty(); text = trimmed(text)) {
    const size_t end = std::min(text.find_first_of(kBlanks), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

std::optional<int64_t> count_of(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size() && value > 0;
  return whole ? std::optional(value) : std::nullopt;
}

void help(ChatSession&, const std::string&);

void system(ChatSession& session, const std::string& text) {
  Conversation& conversation = session.conversation();
  if (text.empty()) return print_output("{}\n", conversation.system().value_or("(there is no system message)"));
  conversation.set_system(text == "none" ? std::nullopt : std::optional(text));
  session.remark("the system message counts from the next answer on; /regenerate answers the last question again");
}

void undo(ChatSession& session, const std::string&) {
  if (!session.conversation().undo()) fail("there is no question that could be taken back");
  session.remark("the last question and its answer are gone; " +
                 counted(session.conversation().messages().size(), "message") + " left");
}

void regenerate(ChatSession& session, const std::string&) {
  if (session.conversation().options().sampling.temperature == 0) {
    session.remark("at temperature 0 the answer is always the same; /set temperature 1 lets it vary");
  }
  session.answer_again(true);
}

void save(ChatSession& session, const std::string& path) {
  if (path.empty()) fail_usage("/save needs the name of a file");
  const auto& messages = session.conversation().messages();
  write_file(path, messages_json(messages));
  session.remark(counted(messages.size(), "message") + " saved to " + path);
}

void load(ChatSession& session, const std::string& path) {
  if (path.empty()) fail_usage("/load needs the name of a file");
  auto messages = parse_messages(read_file(path), path);
  const bool answered = messages.empty() || messages.back().role != "user";
  session.remark(counted(messages.size(), "message") + " loaded" +
                 (answered ? "" : "; /regenerate answers the last one"));
  session.conversation().set_messages(std::move(messages));
}

void set(ChatSession& session, const std::string& text) {
  GenerationOptions& options = session.conversation().options();
  const auto words = words_of(text);
  if (words.empty()) return print_text(settings_table(options));
  if (words.size() != 2) fail_usage("/set needs a key and a value, such as `/set temperature 0.7`");
  options = with_setting(options, words[0], words[1]);
}

void stats(ChatSession& session, const std::string&) { print_text(session.statistics()); }

void clear(ChatSession& session, const std::string&) {
  Conversation& conversation = session.conversation();
  const auto text = conversation.system();
  conversation.set_messages({});
  if (text) conversation.set_system(text);
  session.remark(text ? "the conversation is empty but for its system message" : "the conversation is empty");
}

void check_has_experts(ChatSession& session) {
  if (session.conversation().engine().config().moe_layers() == 0) fail("this model has no routed experts");
}

void experts(ChatSession& session, const std::string& text) {
  constexpr int64_t kShown = 4;
  check_has_experts(session);
  const auto most = text.empty() ? std::optional(kShown) : count_of(text);
  if (!most) fail_usage("/experts {}: expected the number of experts to show for each layer", printable(text));
  Conversation& conversation = session.conversation();
  const std::string table = experts_table(conversation.experts_used(), conversation.engine().switches(), *most);
  if (table.empty()) fail("there is no answer yet whose experts could be shown; ask something");
  const int64_t choices = conversation.experts_used().front().choices;
  const int64_t each = conversation.engine().config().num_experts_per_tok;
  print_output("{} of the last answer, {} each\n{}", counted(choices / each, "token"), counted(each, "expert"), table);
}

void mask(ChatSession& session, const std::string& text) {
  check_has_experts(session);
  RoutingSwitches switches = session.conversation().engine().switches();
  if (text.empty()) return print_output("masked: {}\n", masks_text(switches));
  if (text == "none") {
    switches.masked.clear();
  } else {
    for (const std::string& word : words_of(text)) switches.masked.push_back(parse_mask(word, "/mask"));
  }
  session.route(switches);
}

/// A boost replaces the earlier one of the same expert.
void boost(ChatSession& session, const std::string& text) {
  check_has_experts(session);
  RoutingSwitches switches = session.conversation().engine().switches();
  const auto words = words_of(text);
  if (words.empty()) return print_output("boosted: {}\n", boosts_text(switches));
  if (words.size() == 1 && words[0] == "none") {
    switches.boosted.clear();
    return session.route(switches);
  }
  if (words.size() != 2)
    fail_usage("/boost {}: expected LAYER:EXPERT NUMBER, LAYER:EXPERT none, or none", printable(text));
  const bool removes = words[1] == "none";
  for (const ExpertBoost& added : parse_boosts(words[0] + "=" + (removes ? "0" : words[1]), "/boost")) {
    std::erase_if(switches.boosted,
                  [&](const ExpertBoost& old) { return old.layer == added.layer && old.expert == added.expert; });
    if (!removes) switches.boosted.push_back(added);
  }
  session.route(switches);
}

void experts_per_token(ChatSession& session, const std::string& text) {
  check_has_experts(session);
  const ModelConfig& config = session.conversation().engine().config();
  RoutingSwitches switches = session.conversation().engine().switches();
  if (text.empty()) return print_output("{}\n", config.num_experts_per_tok);
  const auto count = text == "none" ? std::optional<int64_t>(0) : count_of(text);
  if (!count) {
    fail_usage("/experts-per-token {}: expected a number from 1 to {}, or none for the model's own", printable(text),
               config.n_routed_experts);
  }
  switches.experts_per_token = *count;
  session.route(switches);
}

void leave(ChatSession& session, const std::string&) { session.end(); }

constexpr Command kCommands[] = {
    {"/help", "", "this list", help},
    {"/system", "TEXT|none", "set the system message; alone: show it", system},
    {"/undo", "", "take back the last question and its answer", undo},
    {"/regenerate", "", "answer the last question again, with other random draws", regenerate},
    {"/save", "FILE", "write the messages to a file, as JSON", save},
    {"/load", "FILE", "go on with the messages of such a file", load},
    {"/set", "KEY VALUE", "change how tokens are chosen; alone: show all keys", set},
    {"/stats", "", "tokens, speed, cache and context of the last answer", stats},
    {"/experts", "[N]", "which N experts of each layer gave the last answer", experts},
    {"/mask", "LAYER:EXPERT[,EXPERT...]|none", "forbid experts, and answer again", mask},
    {"/boost", "LAYER:EXPERT NUMBER|none", "add a number to an expert's score, and answer again", boost},
    {"/experts-per-token", "N|none", "use N experts for each token, and answer again", experts_per_token},
    {"/clear", "", "forget the messages, but not the system message", clear},
    {"/exit", "", "end the chat, as Ctrl-D does", leave},
};

void help(ChatSession&, const std::string&) {
  for (const Command& command : kCommands) {
    print_output("{:<50} {}\n", fmt::format("{} {}", command.name, command.arguments), command.help);
  }
  print_text(
      "A line that begins with // is a message that begins with /. On a terminal, a line that ends with \\ goes on in\n"
      "the next one, \"\"\" begins and ends a message of several lines, and Ctrl-C stops an answer.\n");
}

/// Words of other programs.
std::string_view meant_by(std::string_view word) {
  struct Meaning {
    std::string_view word, command;
  };
  constexpr Meaning kMeanings[] = {{"/quit", "/exit"},        {"/bye", "/exit"},    {"/q", "/exit"},
                                   {"/?", "/help"},           {"/h", "/help"},      {"/retry", "/regenerate"},
                                   {"/again", "/regenerate"}, {"/reset", "/clear"}, {"/new", "/clear"},
                                   {"/show", "/stats"},       {"/read", "/load"},   {"/write", "/save"},
                                   {"/back", "/undo"},        {"/bias", "/boost"}};
  for (const Meaning& meaning : kMeanings) {
    if (meaning.word == word) return meaning.command;
  }
  return "";
}

}  // namespace

std::vector<std::string> chat_command_names() {
  std::vector<std::string> names;
  for (const Command& command : kCommands) names.emplace_back(command.name);
  return names;
}

void run_chat_command(ChatSession& session, std::string_view line) {
  line = trimmed(line);
  const std::string name(line.substr(0, line.find_first_of(kBlanks)));
  const std::string arguments(trimmed(line.substr(name.size())));
  for (const Command& command : kCommands) {
    if (command.name != name) continue;
    if (command.takes_none() && !arguments.empty()) fail_usage("{} takes nothing after it", name);
    return command.run(session, arguments);
  }
  const std::string meant(meant_by(name));
  const std::string near = meant.empty() ? nearest_name(name, chat_command_names()) : meant;
  fail_usage("there is no command {}; {}", printable(name),
             near.empty() ? "/help lists the commands, and // begins a message with /" : "did you mean " + near + "?");
}

}  // namespace moe
