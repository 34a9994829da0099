#include "base/terminal.h"

#include <sys/ioctl.h>

#include <unistd.h>

namespace moe {

size_t terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace moe
