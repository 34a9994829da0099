#pragma once
/// How much memory of the host this process uses, and can still use.

#include <cstdint>

#include "base/file.h"

namespace moe {

/// Bytes that the process can still use before the system, or a control group that it is in, refuses or ends it: the
/// least of MemAvailable (/proc/meminfo) and of what each control group leaves below its limit (version 2: memory.max
/// and memory.high; version 1: memory.limit_in_bytes), the groups around it included, and of what the process's own
/// limits leave (RLIMIT_AS less VmSize, RLIMIT_DATA less VmData). Files that a group holds in
/// memory and can drop count as free. What cannot be read limits nothing; where nothing can, the system's free pages.
/// `root` is "/", or a folder with copies of those files.
int64_t free_host_memory(const fs::path& root = "/");

/// Bytes of memory that this process has now (its resident set); 0 where that cannot be read.
int64_t resident_bytes(const fs::path& root = "/");

/// The largest amount of memory that this process has used so far.
int64_t peak_resident_bytes();

/// All memory that the process can use: what it has and what is free, minus a fiftieth as a reserve.
int64_t usable_host_memory(const fs::path& root = "/");

}  // namespace moe
