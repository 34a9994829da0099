#pragma once
/// Where the messages of a chat come from.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fs.h"
#include "cli/interrupts.h"

namespace moe {

/// Use it on one thread at a time.
class ChatInput {
 public:
  virtual ~ChatInput() = default;
  /// The next message or command, without its line end, as valid UTF-8; nothing at the end.
  virtual std::optional<std::string> next() = 0;
};

/// Every line of standard input is one message. A line of more than 64 MiB is an error.
std::unique_ptr<ChatInput> plain_input();

/// Lines edited on the terminal (libedit), with a prompt on standard error. A message may have several lines: a line
/// that ends with a backslash goes on in the next one, and """ begins and ends a block. Ctrl-C clears the line; twice,
/// or Ctrl-D, is the end. A signal that ends the program does so from inside next(), after the terminal has its mode
/// back. `history`: the file of earlier messages; empty: none is read or written. The Tab key completes `commands` at
/// the begin of a line. `interrupts` must outlive the input.
std::unique_ptr<ChatInput> terminal_input(Interrupts& interrupts, const fs::path& history,
                                          std::vector<std::string> commands);

}  // namespace moe
