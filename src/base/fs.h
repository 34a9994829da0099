#pragma once
/// The short name of the standard library's file system.

#include <filesystem>

namespace moe {

namespace fs = std::filesystem;

}  // namespace moe
