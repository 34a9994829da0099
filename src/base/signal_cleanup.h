#pragma once
/// Removes the temporary files and folders of this process when a signal ends it.

#include "base/fs.h"

namespace moe {

/// From now on, a signal that ends the process removes this file or folder first. Call it before the path is made.
/// `aside`, in the same folder, is the name that the path gets before its content is removed. A later start of the
/// program must recognise that name as a leftover. Any thread may call it.
void doom(const fs::path& path, const fs::path& aside);

/// Signals leave the path alone from now on: it has another name, or is removed. Any thread may call it.
void spare(const fs::path& path) noexcept;

/// From now on SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE and SIGXCPU end the process through end_by_signal(). A signal
/// that is ignored now stays ignored (nohup). Call it once, at the start of a program.
void clean_up_on_signals();

/// Removes all doomed paths and ends the process by `signal`. Safe in a signal handler. Other threads may still work
/// meanwhile. A path is renamed before its content is removed, so no thread can put a part of it into place.
void end_by_signal(int signal) noexcept;

/// The same, but the process ends with this exit status. Buffered output is lost. Safe in a signal handler.
[[noreturn]] void end_with_status(int status) noexcept;

}  // namespace moe
