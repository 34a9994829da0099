#pragma once
/// Ends the program with a status other than 0, 1 and 2.

namespace moe {

/// Thrown by a command that has printed everything. main() returns the status.
struct ExitStatus {
  int status;
};

/// Does nothing for 0.
inline void exit_with(int status) {
  if (status != 0) throw ExitStatus{status};
}

}  // namespace moe
