#pragma once
/// Signals of a program that talks with a person at a terminal.

namespace moe {

/// While it exists, Ctrl-C (SIGINT) does not end the program but is noted. Signals that end the program wait while a
/// line is edited, so that the terminal gets its mode back. Only one may exist, and only one thread may use it.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  /// True if Ctrl-C was pressed since the last take().
  bool pending() const;
  bool take();
  /// True if the terminal's size may have changed, or the program was stopped and goes on, since the last call.
  bool take_redraw();

  /// Says that a line is being edited.
  void set_editing(bool editing);
  /// The signal that wants to end the program; 0: none.
  int ending() const;
  /// Waits until `descriptor` can be read (true) or a signal has come (false).
  bool wait_for(int descriptor) const;
};

}  // namespace moe
