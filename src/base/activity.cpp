#include "base/activity.h"

#include <filesystem>
#include <new>
#include <stdexcept>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"

namespace moe {
namespace {

std::string ended;

std::string while_what() { return ended.empty() ? "" : fmt::format(" while {}", ended); }

}  // namespace

Activity::~Activity() {
  if (ended.empty() && std::uncaught_exceptions() > exceptions_) ended = std::move(what_);
}

const std::string& Activity::ended_by_exception() { return ended; }

std::string sentence_of(const std::exception& error) {
  if (dynamic_cast<const Error*>(&error) != nullptr) return error.what();
  // A size that no container can have also means too much memory.
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
      dynamic_cast<const std::length_error*>(&error) != nullptr) {
    return fmt::format("the system has no more memory for this program{}; use smaller sizes or free memory",
                       while_what());
  }
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    return fmt::format("{}: {}{}", file->path1().string(), file->code().message(), while_what());
  }
  if (const auto* system = dynamic_cast<const std::system_error*>(&error)) {
    return fmt::format("the system refuses what the program needs{}: {}", while_what(), system->code().message());
  }
  return fmt::format("an unexpected error{}: {}; this is a mistake in moe, please report it with the command line",
                     while_what(), error.what());
}

}  // namespace moe
