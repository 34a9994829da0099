#pragma once
/// The mode of the terminal at standard input.

#include <optional>

#include <termios.h>

namespace moe {

/// Remembers the mode of the terminal, if standard input is one. Any thread may give it back.
class TerminalMode {
 public:
  TerminalMode();

  /// Gives the terminal the mode that it had, if that has changed: for an end of the program in the middle of a line
  /// that is edited.
  void give_back() const noexcept;

 private:
  std::optional<termios> mode_;
};

}  // namespace moe
