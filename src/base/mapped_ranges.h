#pragma once
/// Files that become shorter while they are mapped. Their lost part cannot be read: the system sends SIGBUS.

#include <cstddef>

#include "base/fs.h"

namespace moe {

/// Remembers which file is mapped at `data`. Any thread may call it.
void remember_mapping(const void* data, size_t size, const fs::path& path);

/// Forgets it. Call it before the mapping ends. Any thread may call it.
void forget_mapping(const void* data) noexcept;

/// From now on, a read of a mapped file's lost part ends the process with status 1 and one sentence that names the
/// file. Doomed paths (base/signal_cleanup.h) are removed before. Call it once, at the start of a program.
void end_when_a_mapped_file_is_lost();

}  // namespace moe
