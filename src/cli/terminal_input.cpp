#include <algorithm>
#include <clocale>
#include <cstdio>
#include <cstring>

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/signal_cleanup.h"
#include "base/utf8.h"
#include "cli/chat_history.h"
#include "cli/chat_input.h"

namespace moe {
namespace {

constexpr const char* kBlock = "\"\"\"";
constexpr std::string_view kPasteBegin = "\x1b[?2004h", kPasteStop = "\x1b[?2004l", kPasteEnd = "\x1b[201~";

void write_to_terminal(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

/// libedit reads and shows characters as the locale says. Only this category is set: numbers keep their point.
void use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

class TerminalInput final : public ChatInput {
 public:
  TerminalInput(Interrupts& interrupts, const fs::path& file, std::vector<std::string> commands)
      : interrupts_(interrupts), history_(file), commands_(std::move(commands)) {
    use_utf8();
    edit_ = el_init("moe", stdin, stderr, stderr);
    if (edit_ == nullptr) fail("the terminal cannot be edited on; give the messages through a pipe");
    lines_ = history_init();
    HistEvent event;
    history(lines_, &event, H_SETSIZE, static_cast<int>(ChatHistory::kMostEntries));
    history(lines_, &event, H_SETUNIQUE, 1);
    for (const std::string& entry : history_.entries()) history(lines_, &event, H_ENTER, entry.c_str());
    el_set(edit_, EL_CLIENTDATA, this);
    el_set(edit_, EL_PROMPT, &prompt);
    el_set(edit_, EL_EDITOR, "emacs");
    el_set(edit_, EL_SIGNAL, 0);
    el_set(edit_, EL_HIST, history, lines_);
    el_wset(edit_, EL_GETCFN, &read_character);
    add_function(L"moe-complete", L"completes a command", &complete, L"^I");
    add_function(L"moe-paste", L"inserts a pasted text", &paste, L"\\e[200~");
    add_function(L"moe-new-line", L"begins another line", &new_line, L"\\e^M");
    el_set(edit_, EL_BIND, "\\e^J", "moe-new-line", nullptr);  // Enter sends this where the terminal turns CR into LF
    el_source(edit_, nullptr);                                 // ~/.editrc
  }
  ~TerminalInput() override {
    history_end(lines_);
    el_end(edit_);
  }
  TerminalInput(const TerminalInput&) = delete;
  TerminalInput& operator=(const TerminalInput&) = delete;

  std::optional<std::string> next() override {
    bool cleared = false;  // by a Ctrl-C just before
    for (;;) {
      std::string text;
      const Got got = read_message(text);
      if (got == Got::end) {
        write_to_terminal("\n");
        return std::nullopt;
      }
      if (got == Got::message) {
        remember(text);
        return text;
      }
      if (cleared && text.empty()) return std::nullopt;
      cleared = text.empty();
      if (cleared) log_info("(Ctrl-C once more, or Ctrl-D, ends the chat)");
    }
  }

 private:
  enum class Got { message, interrupt, end };

  static TerminalInput& of(EditLine* edit) {
    void* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return *static_cast<TerminalInput*>(self);
  }

  /// libedit keeps the addresses of `name` and `help`. (el_set would copy narrow strings and never free them.)
  void add_function(const wchar_t* name, const wchar_t* help, unsigned char (*function)(EditLine*, int),
                    const wchar_t* key) {
    el_wset(edit_, EL_ADDFN, name, help, function);
    el_wset(edit_, EL_BIND, key, name, nullptr);
  }

  static char* prompt(EditLine* edit) {
    static char first[] = "> ", more[] = ". ";
    return of(edit).more_ ? more : first;
  }

  Got read_message(std::string& text) {
    more_ = false;
    Got got = read_line(text);
    if (got != Got::message) return got;
    const bool block = text.starts_with(kBlock);
    if (block) text.erase(0, std::strlen(kBlock));
    more_ = true;
    while (block ? !text.ends_with(kBlock) : text.ends_with('\\')) {
      if (!block) text.pop_back();
      std::string line;
      got = read_line(line);
      if (got == Got::end && block) break;  // the block ends here
      if (got != Got::message) return got;
      text += "\n" + line;
    }
    if (block && text.ends_with(kBlock)) text.resize(text.size() - std::strlen(kBlock));
    if (block && text.starts_with('\n')) text.erase(0, 1);
    if (block && text.ends_with('\n')) text.pop_back();
    return Got::message;
  }

  /// After an interrupt, `line` has what was typed.
  Got read_line(std::string& line) {
    int count = 0;
    interrupts_.take();
    interrupts_.set_editing(true);
    el_set(edit_, EL_PREP_TERM, 1);  // before the prompt, so that no key is taken for the old mode
    write_to_terminal(kPasteBegin);
    const char* const typed = el_gets(edit_, &count);
    write_to_terminal(kPasteStop);
    interrupts_.set_editing(false);
    if (const int signal = interrupts_.ending(); signal != 0) {
      el_set(edit_, EL_PREP_TERM, 0);
      write_to_terminal("\n");
      end_by_signal(signal);
    }
    if (interrupts_.take()) {
      write_to_terminal("^C\n");
      line = interrupted_line_;
      return Got::interrupt;
    }
    if (typed == nullptr || count <= 0) return Got::end;
    line = valid_utf8(std::string_view(typed, static_cast<size_t>(count)));
    if (line.ends_with('\n')) line.pop_back();
    return Got::message;
  }

  void remember(const std::string& text) {
    if (text.find_first_not_of(" \t\n") == std::string::npos) return;
    HistEvent event;
    history(lines_, &event, H_ENTER, text.c_str());
    history_.add(text);
  }

  /// One character. After a signal that ends the line: -1.
  static int read_character(EditLine* edit, wchar_t* character) {
    TerminalInput& self = of(edit);
    for (;;) {
      if (self.interrupts_.pending() || self.interrupts_.ending() != 0) {
        const LineInfo* const line = el_line(edit);
        self.interrupted_line_.assign(line->buffer, line->lastchar);
        return -1;
      }
      if (self.interrupts_.take_redraw()) {
        el_set(edit, EL_PREP_TERM, 0);
        el_set(edit, EL_PREP_TERM, 1);
        el_resize(edit);
        el_set(edit, EL_REFRESH);
      }
      if (self.interrupts_.wait_for(STDIN_FILENO)) break;
    }
    std::string bytes(1, '\0');
    if (const auto got = ::read(STDIN_FILENO, bytes.data(), 1); got != 1) return static_cast<int>(got);
    while (utf8_incomplete_suffix(bytes) == bytes.size()) {  // the rest of a character comes with its start
      char next = 0;
      if (::read(STDIN_FILENO, &next, 1) != 1) break;
      bytes += next;
    }
    const std::string whole = valid_utf8(bytes);
    std::string_view rest = whole;
    *character = static_cast<wchar_t>(utf8_take(rest));
    return 1;
  }

  static unsigned char complete(EditLine* edit, int) {
    const LineInfo* const line = el_line(edit);
    const std::string_view typed(line->buffer, static_cast<size_t>(line->cursor - line->buffer));
    const std::vector<std::string>& commands = of(edit).commands_;
    std::string common;
    size_t found = 0;
    for (const std::string& command : commands) {
      if (typed.empty() || !command.starts_with(typed)) continue;
      const std::string rest = command.substr(typed.size()) + " ";
      if (found++ == 0) common = rest;
      common.resize(static_cast<size_t>(std::mismatch(common.begin(), common.end(), rest.begin(), rest.end()).first -
                                        common.begin()));
    }
    if (common.empty()) return CC_REFRESH_BEEP;
    el_insertstr(edit, common.c_str());
    return CC_REFRESH;
  }

  /// A terminal says where a pasted text begins and ends, so that its lines are not sent one by one.
  static unsigned char paste(EditLine* edit, int) {
    std::string text;
    while (!text.ends_with(kPasteEnd)) {
      wchar_t character = 0;
      if (read_character(edit, &character) != 1) return CC_EOF;
      utf8_append(text, static_cast<char32_t>(character));
    }
    text.resize(text.size() - kPasteEnd.size());
    std::replace(text.begin(), text.end(), '\r', '\n');
    while (text.ends_with('\n')) text.pop_back();
    el_insertstr(edit, text.c_str());
    return CC_REFRESH;
  }

  static unsigned char new_line(EditLine* edit, int) {
    el_insertstr(edit, "\n");
    return CC_REFRESH;
  }

  Interrupts& interrupts_;
  ChatHistory history_;
  std::vector<std::string> commands_;
  bool more_ = false;
  std::string interrupted_line_;
  EditLine* edit_ = nullptr;
  History* lines_ = nullptr;
};

}  // namespace

std::unique_ptr<ChatInput> terminal_input(Interrupts& interrupts, const fs::path& history,
                                          std::vector<std::string> commands) {
  return std::make_unique<TerminalInput>(interrupts, history, std::move(commands));
}

}  // namespace moe
